//! The generated clients, and what the rows share.

use std::time::Duration;

use keelstone_env::{channel, ChannelOptions, Env};
use keelstone_etcd_api::{
    pb::{
        self, auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
        maintenance_client::MaintenanceClient, watch_client::WatchClient, watch_request::RequestUnion,
    },
    v3electionpb::election_client::ElectionClient,
    v3lockpb::lock_client::LockClient,
    ApiError,
};
use tokio::sync::mpsc;
use tonic::{transport::Channel, Code, Response, Status, Streaming};

use super::MISSING;
use crate::common::Cluster;

/// A raw client of one member.
#[derive(Clone)]
pub struct Client {
    pub channel: Channel,
    pub endpoints: Vec<String>,
    /// A channel to the leader: some calls are for it alone.
    pub leader: Channel,
    pub members: usize,
}

impl Client {
    pub async fn new(cluster: &Cluster) -> Self {
        let endpoints = cluster.endpoints();
        let to = |endpoint: &str| channel(&Env::os(), endpoint, ChannelOptions::default()).unwrap();
        // The last member: on three, mostly a follower.
        let (own, leader) = (&endpoints[endpoints.len() - 1], &endpoints[cluster.leader().await]);
        Self { channel: to(own), leader: to(leader), members: endpoints.len(), endpoints }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoints[self.endpoints.len() - 1]
    }

    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_encoding_message_size(usize::MAX)
    }

    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    pub fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    pub fn lock(&self) -> LockClient<Channel> {
        LockClient::new(self.channel.clone())
    }

    pub fn election(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.channel.clone())
    }

    pub async fn put(&self, key: &str, value: &str) -> Result<i64, String> {
        let answer = said(self.kv().put(put(key, value)).await)?;
        Ok(answer.header.unwrap_or_default().revision)
    }

    pub async fn get(&self, key: &str) -> Result<pb::RangeResponse, String> {
        said(self.kv().range(get(key)).await)
    }

    pub async fn delete(&self, key: &str, range_end: &str) -> Result<pb::DeleteRangeResponse, String> {
        said(self.kv().delete_range(crate::requests::delete(key, range_end)).await)
    }

    /// Removes everything below a prefix that ends in `/`.
    pub async fn clear(&self, prefix: &str) -> Result<(), String> {
        let end = prefix.replace('/', "0");
        self.delete(prefix, &end).await.map(drop)
    }

    pub async fn watch(&self) -> Result<Stream, String> {
        let (requests, mut receiver) = mpsc::channel(16);
        let outgoing = async_stream::stream! {
            while let Some(request) = receiver.recv().await {
                yield request;
            }
        };
        let answers = WatchClient::new(self.channel.clone()).watch(outgoing).await;
        Ok(Stream { requests, answers: said(answers)? })
    }
}

pub use crate::common::{get, put};

/// The answer, or why the row is broken or missing.
pub fn said<T>(result: Result<Response<T>, Status>) -> Result<T, String> {
    match result {
        Ok(response) => Ok(response.into_inner()),
        Err(status) if status.code() == Code::Unimplemented => Err(format!("{MISSING}{}", status.message())),
        Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
    }
}

/// Checks that a call fails with an error of the table.
pub fn fails<T>(result: Result<Response<T>, Status>, error: ApiError) -> Result<(), String> {
    match result {
        Ok(_) => Err(format!("succeeded; should be {error:?}")),
        Err(status) if status.code() == Code::Unimplemented => Err(format!("{MISSING}{}", status.message())),
        Err(status) if (status.code(), status.message()) == (error.code(), error.text()) => Ok(()),
        Err(status) => Err(format!("{:?}: {}, not {error:?}", status.code(), status.message())),
    }
}

/// One watch stream.
pub struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Stream {
    pub async fn send(&self, union: RequestUnion) -> Result<(), String> {
        let sent = self.requests.send(pb::WatchRequest { request_union: Some(union) }).await;
        sent.map_err(|_| "the stream's requests are closed".to_owned())
    }

    pub async fn create(&mut self, request: pb::WatchCreateRequest) -> Result<pb::WatchResponse, String> {
        self.send(RequestUnion::CreateRequest(request)).await?;
        self.next().await
    }

    pub async fn next(&mut self) -> Result<pb::WatchResponse, String> {
        match tokio::time::timeout(Duration::from_secs(10), self.answers.message()).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            other => Err(format!("no watch response: {other:?}")),
        }
    }
}

/// A watch of one key.
pub fn on(key: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.to_owned().into(), ..Default::default() }
}
