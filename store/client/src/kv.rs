use std::pin::Pin;

use async_trait::async_trait;
use futures::Stream;
use keelstone_etcd_api::{pb, ApiError};
use tokio::sync::mpsc;

/// Responses of one watch, in order. Ends after an error or a response with `canceled`.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, KvError>> + Send>>;

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KvError {
    /// The store answered with an error of the etcd v3 table.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// The request may or may not have been carried out: it was sent and no answer came.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The request was certainly not carried out: no member took it.
    #[error("no member could be reached: {0}")]
    Unreachable(String),
    /// The store refused the request, unchanged, with an error that is not in the table.
    #[error("{0}")]
    Refused(String),
}

impl KvError {
    /// True if the request may have taken effect in spite of the error.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::Unreachable(_) | Self::Refused(_) => false,
            Self::Api(error) => matches!(
                error,
                ApiError::Timeout
                    | ApiError::TimeoutLeaderFail
                    | ApiError::TimeoutConnectionLost
                    | ApiError::TimeoutWaitAppliedIndex
                    | ApiError::LeaderChanged
                    | ApiError::Stopped
                    | ApiError::DeadlineExceeded
                    | ApiError::RequestCanceled
            ),
        }
    }
}

/// The part of the etcd v3 API that the API server uses: over gRPC ([`crate::GrpcKv`]) or in the process
/// (`keelstone-store-server`). It is the only way from `apiserver` to `store`.
#[async_trait]
pub trait EtcdKv: Send + Sync + 'static {
    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, KvError>;
    async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, KvError>;
    async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, KvError>;
    async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, KvError>;
    async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, KvError>;
    async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, KvError>;
    async fn lease_revoke(&self, request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, KvError>;
    async fn lease_keep_alive_once(&self, lease_id: i64) -> Result<pb::LeaseKeepAliveResponse, KvError>;
    async fn status(&self) -> Result<pb::StatusResponse, KvError>;
    /// Opens a watch. The first response has `created`; with `progress_notify` a response without events
    /// says how far the watch is complete. Never resumes by itself; [`crate::resume`] does.
    async fn watch(&self, request: pb::WatchCreateRequest) -> Result<WatchStream, KvError> {
        let (_, never) = mpsc::channel(1);
        self.watch_with_progress(request, never).await
    }

    /// As [`EtcdKv::watch`]; each message on `progress_requests` asks for one response without events, whose
    /// `header.revision` says up to where the watch is complete. The watch goes on when that channel closes.
    async fn watch_with_progress(
        &self,
        request: pb::WatchCreateRequest,
        progress_requests: mpsc::Receiver<()>,
    ) -> Result<WatchStream, KvError>;
}
