use std::{
    future::Future,
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use keelstone_env::fault::{self, Point};
use keelstone_env::{channel, ChannelOptions, ClientTls, Env};
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
    watch, EtcdKv, KvError, WatchStream,
};

/// How [`GrpcKv`] reaches the members.
#[derive(Clone, Debug)]
pub struct GrpcKvOptions {
    /// `host:port` of each member's client listener; the first is tried first.
    pub endpoints: Vec<String>,
    /// `None`: plaintext.
    pub tls: Option<ClientTls>,
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
            keep_alive_interval: Duration::from_millis(KEEP_ALIVE_INTERVAL_MS),
            request_timeout: Duration::from_millis(REQUEST_MS_MAX),
        }
    }
}

/// [`EtcdKv`] over gRPC to a list of members: this project's store or a real etcd.
///
/// Calls go to one member until it fails them; then the next one is the first choice.
pub struct GrpcKv {
    members: Vec<Member>,
    /// Index of the member that calls go to first.
    preferred: AtomicUsize,
    request_timeout: Duration,
}

pub(crate) struct Member {
    address: String,
    channel: Channel,
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
        let members = options
            .endpoints
            .iter()
            .map(|address| {
                let channel = channel(env, address, channel_options.clone())?;
                Ok(Member { address: address.clone(), channel })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { members, preferred: AtomicUsize::new(0), request_timeout: options.request_timeout })
    }

    /// Runs `call` against one member after the other until it succeeds, its error is final, or time is up.
    async fn run<Q, R, F, C>(&self, kind: Kind, attempt_max: Duration, request: Q, call: C) -> Result<R, KvError>
    where
        Q: Clone,
        C: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<R, Status>>,
    {
        let end = Instant::now() + self.request_timeout;
        let mut backoff = Duration::from_millis(BACKOFF_MS_MIN);
        let mut last = None;
        for attempt in 1.. {
            let index = self.preferred.load(Ordering::Relaxed) % self.members.len();
            let member = &self.members[index];
            let attempt_end = match kind {
                Kind::Read => end.min(Instant::now() + attempt_max),
                Kind::Write => end,
            };
            fault::pause(Point::ClientAttempt).await;
            let mut sent = Request::new(request.clone());
            sent.set_timeout(attempt_end.saturating_duration_since(Instant::now()));
            let (error, verdict) = match timeout_at(attempt_end, call(member.channel.clone(), sent)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(status)) => judge(&status),
                Err(_) => (KvError::Unknown(format!("{} did not answer in time", member.address)), Verdict::Unknown),
            };
            if verdict == Verdict::Final || (verdict == Verdict::Unknown && kind == Kind::Write) {
                return Err(error);
            }
            tracing::debug!(member = %member.address, %error, attempt, "trying the next member");
            self.leave(index);
            last = Some(better(last, error));
            if attempt % self.members.len() == 0 {
                if Instant::now() + backoff >= end {
                    break;
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(Duration::from_millis(BACKOFF_MS_MAX));
            } else if Instant::now() >= end {
                break;
            }
        }
        Err(last.unwrap_or(KvError::Api(ApiError::DeadlineExceeded)))
    }

    /// Makes the member after `index` the first choice, unless another call already moved on.
    fn leave(&self, index: usize) {
        let next = (index + 1) % self.members.len();
        // A lost race means that another call has moved on: nothing is left to do.
        let _ = self.preferred.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn read<Q: Clone, R, F, C>(&self, request: Q, call: C) -> Result<R, KvError>
    where
        C: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt_max = Duration::from_millis(READ_ATTEMPT_MS_MAX);
        self.run(Kind::Read, attempt_max, request, call).await.map(Response::into_inner)
    }

    async fn write<Q: Clone, R, F, C>(&self, request: Q, call: C) -> Result<R, KvError>
    where
        C: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.run(Kind::Write, self.request_timeout, request, call).await.map(Response::into_inner)
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
        self.read(request, |channel, request| async move { kv_client(channel).range(request).await }).await
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
            return self.read(request, call).await;
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
        self.run(Kind::Read, attempt_max, lease_id, |channel, request| async move {
            let (metadata, extensions, id) = request.into_parts();
            let once = futures::stream::once(async move { pb::LeaseKeepAliveRequest { id } });
            let request = Request::from_parts(metadata, extensions, once);
            let mut answers = LeaseClient::new(channel).lease_keep_alive(request).await?.into_inner();
            answers.message().await?.ok_or_else(|| Status::unavailable("the keep-alive stream ended"))
        })
        .await
    }

    async fn status(&self) -> Result<pb::StatusResponse, KvError> {
        let call = |channel, request| async move { MaintenanceClient::new(channel).status(request).await };
        self.read(pb::StatusRequest {}, call).await
    }

    async fn watch_with_progress(
        &self,
        request: pb::WatchCreateRequest,
        progress_requests: mpsc::Receiver<()>,
    ) -> Result<WatchStream, KvError> {
        let attempt_max = Duration::from_millis(WATCH_OPEN_ATTEMPT_MS_MAX);
        let opened = self.run(Kind::Read, attempt_max, request, |channel, request| {
            let client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
            watch::open(client, request.into_inner())
        });
        Ok(opened.await?.into_stream(progress_requests))
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
