use std::{
    future::Future,
    io,
    sync::{
        atomic::{AtomicUsize, Ordering},
        Arc,
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{stream::BoxStream, StreamExt};
use keelstone_env::{channel, ChannelOptions, ClientTls, Env};
use keelstone_etcd_api::pb::{
    self, lease_client::LeaseClient, maintenance_client::MaintenanceClient, watch_client::WatchClient,
    watch_request::RequestUnion,
};
use keelstone_mvcc::{AuthContent, AuthStatus};
use tonic::{transport::Channel, Request, Status};

use super::{Source, SourceError, WatchPart};
use crate::constants::{CALL_TIME_MAX, MARK_INTERVAL};

/// How the members are reached.
#[derive(Clone, Debug)]
pub struct GrpcSourceOptions {
    /// `host:port` of each member's client listener; the next one is tried when one fails.
    pub endpoints: Vec<String>,
    /// `None`: plaintext.
    pub tls: Option<ClientTls>,
    /// A token that the store has given out, for stores with users.
    pub token: Option<String>,
}

/// A store behind its client API.
pub struct GrpcSource {
    channels: Vec<Channel>,
    preferred: Arc<AtomicUsize>,
    token: Option<String>,
}

impl GrpcSource {
    /// # Errors
    /// If there is no endpoint, one is not `host:port`, or the TLS material cannot be used.
    pub fn new(env: &Env, options: GrpcSourceOptions) -> io::Result<Self> {
        let tls = match options.tls {
            Some(tls) => Some(env.tls().client(&ClientTls { alpn: vec!["h2".into()], ..tls })?),
            None => None,
        };
        let connect = ChannelOptions {
            tls,
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(5),
            ..ChannelOptions::default()
        };
        let channels: Vec<Channel> = options
            .endpoints
            .iter()
            .map(|address| channel(env, address, connect.clone()))
            .collect::<io::Result<_>>()?;
        if channels.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no endpoints were given"));
        }
        Ok(Self { channels, preferred: Arc::default(), token: options.token })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = self.token.as_ref().and_then(|token| token.parse().ok()) {
            request.metadata_mut().insert("token", token);
        }
        if let Ok(wanted) = "true".parse() {
            // A member without a leader refuses instead of showing an old state.
            request.metadata_mut().insert("hasleader", wanted);
        }
        request
    }

    /// One call at the preferred member; after a failure the next one is preferred.
    async fn call<T, F>(&self, call: impl FnOnce(Channel) -> F) -> Result<T, SourceError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let index = self.preferred.load(Ordering::Relaxed) % self.channels.len();
        let failed = match tokio::time::timeout(CALL_TIME_MAX, call(self.channels[index].clone())).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => text(&status),
            Err(_) => SourceError("the store did not answer in time".into()),
        };
        self.preferred.fetch_add(1, Ordering::Relaxed);
        Err(failed)
    }

    async fn time_to_live(&self, id: i64) -> Result<pb::LeaseTimeToLiveResponse, SourceError> {
        let request = self.request(pb::LeaseTimeToLiveRequest { id, keys: false });
        self.call(
            |channel| async move { Ok(LeaseClient::new(channel).lease_time_to_live(request).await?.into_inner()) },
        )
        .await
    }
}

fn text(status: &Status) -> SourceError {
    SourceError(format!("{:?}: {}", status.code(), status.message()))
}

#[async_trait]
impl Source for GrpcSource {
    async fn status(&self) -> Result<(u64, i64), SourceError> {
        let request = self.request(pb::StatusRequest {});
        let answer = self
            .call(|channel| async move { Ok(MaintenanceClient::new(channel).status(request).await?.into_inner()) })
            .await?;
        let header = answer.header.ok_or_else(|| SourceError("an answer without a header".into()))?;
        Ok((header.cluster_id, header.revision))
    }

    async fn snapshot(&self) -> Result<BoxStream<'static, Result<Bytes, SourceError>>, SourceError> {
        let request = self.request(pb::SnapshotRequest {});
        let index = self.preferred.load(Ordering::Relaxed) % self.channels.len();
        // No bound of time: a large store counts its pages first.
        let opened = MaintenanceClient::new(self.channels[index].clone()).snapshot(request).await;
        let mut answers = match opened {
            Ok(answers) => answers.into_inner(),
            Err(status) => {
                self.preferred.fetch_add(1, Ordering::Relaxed);
                return Err(text(&status));
            }
        };
        let stream = async_stream::stream! {
            loop {
                match answers.message().await {
                    Ok(Some(message)) => yield Ok(message.blob),
                    Ok(None) => return,
                    Err(status) => {
                        yield Err(text(&status));
                        return;
                    }
                }
            }
        };
        Ok(stream.boxed())
    }

    async fn watch(&self, start: i64) -> Result<BoxStream<'static, Result<WatchPart, SourceError>>, SourceError> {
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            start_revision: start,
            ..Default::default()
        };
        let requests = async_stream::stream! {
            yield pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
            loop {
                tokio::time::sleep(MARK_INTERVAL).await;
                let union = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                yield pb::WatchRequest { request_union: Some(union) };
            }
        };
        let request = self.request(requests);
        let mut answers = self
            .call(|channel| async move {
                let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
                Ok(client.watch(request).await?.into_inner())
            })
            .await?;
        let preferred = Arc::clone(&self.preferred);
        let stream = async_stream::stream! {
            loop {
                match answers.message().await.map(|answer| answer.map(part)) {
                    Ok(Some(Ok(None))) => {}
                    Ok(Some(Ok(Some(part)))) => yield Ok(part),
                    Ok(Some(Err(error))) => {
                        preferred.fetch_add(1, Ordering::Relaxed);
                        yield Err(error);
                        return;
                    }
                    Ok(None) => {
                        yield Err(SourceError("the watch ended".into()));
                        return;
                    }
                    Err(status) => {
                        preferred.fetch_add(1, Ordering::Relaxed);
                        yield Err(text(&status));
                        return;
                    }
                }
            }
        };
        Ok(stream.boxed())
    }

    async fn leases(&self) -> Result<Vec<i64>, SourceError> {
        let request = self.request(pb::LeaseLeasesRequest {});
        let answer = self
            .call(|channel| async move { Ok(LeaseClient::new(channel).lease_leases(request).await?.into_inner()) })
            .await?;
        Ok(answer.leases.into_iter().map(|lease| lease.id).collect())
    }

    async fn lease_ttl_s(&self, id: i64) -> Result<Option<i64>, SourceError> {
        let answer = self.time_to_live(id).await?;
        Ok((answer.granted_ttl > 0).then_some(answer.granted_ttl))
    }

    /// The API shows no hashes of passwords.
    async fn auth(&self, _known: Option<AuthStatus>) -> Result<Option<AuthContent>, SourceError> {
        Ok(None)
    }
}

/// What an answer of a watch means; `None` for one that only confirms.
fn part(answer: pb::WatchResponse) -> Result<Option<WatchPart>, SourceError> {
    if answer.compact_revision > 0 {
        return Ok(Some(WatchPart::Compacted));
    }
    if answer.canceled {
        return Err(SourceError(format!("the watch was cancelled: {}", answer.cancel_reason)));
    }
    if answer.created {
        return Ok(None);
    }
    if !answer.events.is_empty() {
        return Ok(Some(WatchPart::Events(answer.events)));
    }
    Ok(answer.header.map(|header| WatchPart::Progress(header.revision)))
}
