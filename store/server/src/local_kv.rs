use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use keelstone_etcd_api::pb::{self, watch_request::RequestUnion};
use keelstone_raft::RaftError;
use keelstone_store_client::{EtcdKv, KvError, WatchStream};
use tokio::sync::mpsc;

use crate::{
    auth::Credentials,
    member::Member,
    watch::{self, Tasks},
};

/// The store in the same process: the gRPC services without gRPC.
pub(crate) struct LocalKv {
    member: Arc<Member>,
}

impl LocalKv {
    pub fn new(member: Arc<Member>) -> Self {
        Self { member }
    }
}

fn kv_error(error: RaftError) -> KvError {
    match error {
        RaftError::Unknown(text) => KvError::Unknown(text),
        error => KvError::Api(error.api()),
    }
}

#[async_trait]
impl EtcdKv for LocalKv {
    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, KvError> {
        self.member.range(request, &Credentials::INTERNAL).await.map_err(kv_error)
    }

    async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, KvError> {
        self.member.put(request, &Credentials::INTERNAL).await.map_err(kv_error)
    }

    async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, KvError> {
        self.member.delete_range(request, &Credentials::INTERNAL).await.map_err(kv_error)
    }

    async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, KvError> {
        self.member.txn(request, &Credentials::INTERNAL).await.map_err(kv_error)
    }

    async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, KvError> {
        self.member.compact(request, &Credentials::INTERNAL).await.map_err(kv_error)
    }

    async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, KvError> {
        self.member.lease_grant(request, &Credentials::INTERNAL).await.map_err(kv_error)
    }

    async fn lease_revoke(&self, request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, KvError> {
        self.member.lease_revoke(request, &Credentials::INTERNAL).await.map_err(kv_error)
    }

    async fn lease_keep_alive_once(&self, lease_id: i64) -> Result<pb::LeaseKeepAliveResponse, KvError> {
        self.member.lease_keep_alive(lease_id, &Credentials::INTERNAL).await.map_err(kv_error)
    }

    async fn status(&self) -> Result<pb::StatusResponse, KvError> {
        Ok(self.member.status_response())
    }

    async fn watch_with_progress(
        &self,
        request: pb::WatchCreateRequest,
        mut progress_requests: mpsc::Receiver<()>,
    ) -> Result<WatchStream, KvError> {
        self.member.require_leader()?;
        let asking = |union| pb::WatchRequest { request_union: Some(union) };
        let requests = async_stream::stream! {
            yield asking(RequestUnion::CreateRequest(request));
            while progress_requests.recv().await.is_some() {
                yield asking(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
            }
        };
        let tasks = Tasks::OfTheirOwn(self.member.env.clone());
        let mut responses =
            Box::pin(watch::start(Arc::clone(&self.member), tasks, Box::pin(requests), Credentials::INTERNAL, true));
        let stream = async_stream::stream! {
            while let Some(response) = responses.next().await {
                let ended = !matches!(&response, Ok(response) if !response.canceled);
                yield response.map_err(KvError::Api);
                if ended {
                    break;
                }
            }
        };
        Ok(stream.boxed())
    }
}
