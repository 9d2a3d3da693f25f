use std::{
    collections::BTreeSet,
    future::Future,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use keelstone_env::fault::{self, Point};
use keelstone_env::{ChannelOptions, ClientTls, Env};
use keelstone_etcd_api::pb::{
    self, kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient,
    watch_client::WatchClient,
};
use keelstone_etcd_api::ApiError;
use tokio::{
    sync::mpsc,
    time::{timeout_at, Instant},
};
use tonic::{transport::Channel, Request, Response, Status};

use crate::{
    attempt::{judge, Verdict},
    constants::*,
    login::{wants_new_token, Login, User},
    members::{Member, Members, Prefer},
    watch, EtcdKv, KvError, WatchStream,
};

/// How [`GrpcKv`] reaches the members.
#[derive(Clone, Debug)]
pub struct GrpcKvOptions {
    /// `host:port` of each member's client listener.
    pub endpoints: Vec<String>,
    /// `None`: plaintext.
    pub tls: Option<ClientTls>,
    /// Who calls, where auth is on and a certificate does not say it.
    pub user: Option<User>,
    /// See [`KEEP_ALIVE_INTERVAL_MS`] before choosing less.
    pub keep_alive_interval: Duration,
    /// Bound of a call, retries included.
    pub request_timeout: Duration,
}

impl GrpcKvOptions {
    /// The defaults for these endpoints.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            tls: None,
            user: None,
            keep_alive_interval: Duration::from_millis(KEEP_ALIVE_INTERVAL_MS),
            request_timeout: Duration::from_millis(REQUEST_MS_MAX),
        }
    }
}

/// [`EtcdKv`] over gRPC to a list of members: this project's store or a real etcd.
///
/// What must pass through the log goes to the leader, other reads to all members in turn. A member that gives no sign
/// of life is asked last until it does.
pub struct GrpcKv {
    env: Env,
    members: Arc<Members>,
    watched_over: OnceLock<()>,
    request_timeout: Duration,
    login: Option<Login>,
}

/// Whether a request may be sent again after an attempt with an unknown outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

impl GrpcKv {
    /// Connects lazily: a member that is down shows up in calls, not here.
    ///
    /// # Errors
    /// If there is no endpoint, an endpoint is not `host:port`, or the TLS material cannot be used.
    pub fn new(env: &Env, options: GrpcKvOptions) -> io::Result<Self> {
        if options.endpoints.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no store endpoints were given"));
        }
        let tls = match &options.tls {
            Some(config) => Some(env.tls().client(&ClientTls { alpn: vec!["h2".into()], ..config.clone() })?),
            None => None,
        };
        let channel_options = ChannelOptions {
            tls,
            connect_timeout: Duration::from_millis(CONNECT_TIMEOUT_MS),
            keep_alive_interval: options.keep_alive_interval,
            keep_alive_timeout: Duration::from_millis(KEEP_ALIVE_TIMEOUT_MS),
            ..ChannelOptions::default()
        };
        let members = Arc::new(Members::new(env, &options.endpoints, &channel_options)?);
        let watched_over = OnceLock::new();
        let login = options.user.map(Login::new);
        Ok(Self { env: env.clone(), members, watched_over, request_timeout: options.request_timeout, login })
    }

    /// Runs `call` against one member after the other until it succeeds, its error is final, or time is up.
    async fn run<Q, R, F, C>(
        &self,
        (kind, prefer): (Kind, Prefer),
        attempt_max: Duration,
        request: Q,
        call: C,
    ) -> Result<(R, usize), KvError>
    where
        Q: Clone,
        C: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<R, Status>>,
    {
        self.watched_over.get_or_init(|| drop(self.env.spawn(Members::watch_over(Arc::downgrade(&self.members)))));
        let end = Instant::now() + self.request_timeout;
        let mut backoff = Duration::from_millis(BACKOFF_MS_MIN);
        let mut tried = BTreeSet::new();
        let mut last = None;
        loop {
            let index = self.members.choose(prefer, &tried);
            let member = self.members.get(index);
            let attempt_end = match kind {
                Kind::Read => end.min(Instant::now() + attempt_max),
                Kind::Write => end,
            };
            fault::pause(Point::ClientAttempt).await;
            let mut sent = Request::new(request.clone());
            sent.set_timeout(attempt_end.saturating_duration_since(Instant::now()));
            let call = self.with_pass(&member.channel, sent, &request, &call);
            let (error, verdict) = match attempt(member, attempt_end, call).await {
                Ok(Ok(response)) => {
                    // It was found down before it came up: a watch that is opened now must not end for that.
                    if member.is_down() {
                        member.set_down(false);
                    }
                    return Ok((response, index));
                }
                Ok(Err(status)) => judge(&status),
                Err(said) => (KvError::Unknown(said), Verdict::Unknown),
            };
            if verdict == Verdict::Final || (verdict == Verdict::Unknown && kind == Kind::Write) {
                return Err(error);
            }
            tracing::debug!(member = %member.address, %error, "trying another member");
            if matches!(error, KvError::Unreachable(_)) {
                member.set_down(true);
            }
            tried.insert(index);
            last = Some(better(last, error));
            if Instant::now() >= end {
                break;
            }
            if tried.len() == self.members.len() {
                if Instant::now() + backoff >= end {
                    break;
                }
                tried.clear();
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(Duration::from_millis(BACKOFF_MS_MAX));
            }
        }
        Err(last.unwrap_or(KvError::Api(ApiError::DeadlineExceeded)))
    }

    /// Makes one attempt, with a token if there is a user. If the token was refused, the attempt has done
    /// nothing, and is made once more with a new one.
    async fn with_pass<Q, R, F, C>(
        &self,
        channel: &Channel,
        mut sent: Request<Q>,
        request: &Q,
        call: &C,
    ) -> Result<R, Status>
    where
        Q: Clone,
        C: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<R, Status>>,
    {
        let Some(login) = &self.login else { return call(channel.clone(), sent).await };
        let metadata = sent.metadata().clone();
        let mut pass = login.pass(channel, None).await?;
        for renewals_left in (0..=TOKEN_RENEWALS_MAX).rev() {
            if let Some(token) = pass.token.clone() {
                sent.metadata_mut().insert("token", token);
            }
            match call(channel.clone(), sent).await {
                Err(status) if wants_new_token(&status) && renewals_left > 0 => {
                    pass = login.pass(channel, Some(&pass)).await?;
                    sent = Request::new(request.clone());
                    *sent.metadata_mut() = metadata.clone();
                }
                answer => return answer,
            }
        }
        Err(ApiError::InvalidAuthToken.into())
    }

    async fn read<Q: Clone, R, F, C>(&self, prefer: Prefer, request: Q, call: C) -> Result<R, KvError>
    where
        C: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt_max = Duration::from_millis(READ_ATTEMPT_MS_MAX);
        let (response, _) = self.run((Kind::Read, prefer), attempt_max, request, call).await?;
        Ok(response.into_inner())
    }

    async fn write<Q: Clone, R, F, C>(&self, request: Q, call: C) -> Result<R, KvError>
    where
        C: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let (response, _) = self.run((Kind::Write, Prefer::Leader), self.request_timeout, request, call).await?;
        Ok(response.into_inner())
    }
}

/// Waits for an answer until `end`, but no longer than the member gives signs of life.
async fn attempt<R>(
    member: &Member,
    end: Instant,
    call: impl Future<Output = Result<R, Status>>,
) -> Result<Result<R, Status>, String> {
    tokio::pin!(call);
    loop {
        let patience = end.min(Instant::now() + Duration::from_millis(PATIENCE_MS));
        if let Ok(answer) = timeout_at(patience, call.as_mut()).await {
            return Ok(answer);
        }
        if Instant::now() >= end {
            return Err(format!("{} did not answer in time", member.address));
        }
        // It waits for a quorum, or it is frozen: what it knows by itself it says at once.
        let alive = tokio::select! {
            biased;
            answer = call.as_mut() => return Ok(answer),
            status = member.probe() => status.is_some(),
        };
        if !alive {
            member.set_down(true);
            return Err(format!("{} gives no sign of life", member.address));
        }
    }
}

/// Of two errors the one that says more: what a member answered rather than that one could not be reached.
fn better(last: Option<KvError>, next: KvError) -> KvError {
    match (last, next) {
        (Some(last @ KvError::Api(_)), KvError::Unreachable(_) | KvError::Unknown(_)) => last,
        (Some(last @ KvError::Unknown(_)), KvError::Unreachable(_)) => last,
        (_, next) => next,
    }
}

pub(crate) fn kv_client(channel: Channel) -> KvClient<Channel> {
    // As etcd's own client: what a member answers is read whatever its size.
    KvClient::new(channel).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX)
}

#[async_trait]
impl EtcdKv for GrpcKv {
    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, KvError> {
        let prefer = if request.serializable { Prefer::First } else { Prefer::Any };
        self.read(prefer, request, |channel, request| async move { kv_client(channel).range(request).await }).await
    }

    async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, KvError> {
        self.write(request, |channel, request| async move { kv_client(channel).put(request).await }).await
    }

    async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, KvError> {
        self.write(request, |channel, request| async move { kv_client(channel).delete_range(request).await }).await
    }

    async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, KvError> {
        let call = |channel, request| async move { kv_client(channel).txn(request).await };
        if is_read_only(&request) {
            return self.read(Prefer::Leader, request, call).await;
        }
        self.write(request, call).await
    }

    async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, KvError> {
        self.write(request, |channel, request| async move { kv_client(channel).compact(request).await }).await
    }

    async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, KvError> {
        let call = |channel, request| async move { LeaseClient::new(channel).lease_grant(request).await };
        self.write(request, call).await
    }

    async fn lease_revoke(&self, request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, KvError> {
        let call = |channel, request| async move { LeaseClient::new(channel).lease_revoke(request).await };
        self.write(request, call).await
    }

    /// Sent again on another member after a failure: a keep-alive done twice does no harm.
    async fn lease_keep_alive_once(&self, lease_id: i64) -> Result<pb::LeaseKeepAliveResponse, KvError> {
        let attempt_max = Duration::from_millis(READ_ATTEMPT_MS_MAX);
        let kept = self.run((Kind::Read, Prefer::Leader), attempt_max, lease_id, |channel, request| async move {
            let (metadata, extensions, id) = request.into_parts();
            let once = futures::stream::once(async move { pb::LeaseKeepAliveRequest { id } });
            let request = Request::from_parts(metadata, extensions, once);
            let mut answers = LeaseClient::new(channel).lease_keep_alive(request).await?.into_inner();
            answers.message().await?.ok_or_else(|| Status::unavailable("the keep-alive stream ended"))
        });
        Ok(kept.await?.0)
    }

    async fn status(&self) -> Result<pb::StatusResponse, KvError> {
        let call = |channel, request| async move { MaintenanceClient::new(channel).status(request).await };
        self.read(Prefer::First, pb::StatusRequest {}, call).await
    }

    async fn watch_with_progress(
        &self,
        request: pb::WatchCreateRequest,
        progress_requests: mpsc::Receiver<()>,
    ) -> Result<WatchStream, KvError> {
        let attempt_max = Duration::from_millis(WATCH_OPEN_ATTEMPT_MS_MAX);
        let opened = self.run((Kind::Read, Prefer::Any), attempt_max, request, |channel, request| {
            let client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
            watch::open(client, request)
        });
        let (opened, index) = opened.await?;
        Ok(opened.into_stream(progress_requests, self.members.get(index).down_watch()))
    }
}

/// True if the transaction, nested ones included, only reads.
fn is_read_only(txn: &pb::TxnRequest) -> bool {
    use pb::request_op::Request as Op;
    txn.success.iter().chain(&txn.failure).all(|op| match &op.request {
        Some(Op::RequestRange(_)) => true,
        Some(Op::RequestTxn(nested)) => is_read_only(nested),
        Some(Op::RequestPut(_) | Op::RequestDeleteRange(_)) | None => false,
    })
}
