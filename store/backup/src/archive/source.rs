use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use keelstone_etcd_api::mvccpb;
use keelstone_mvcc::{AuthContent, AuthStatus};

/// A store that is backed up: over the network ([`GrpcSource`](super::GrpcSource)) or in the process.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Id of the cluster and its newest revision.
    async fn status(&self) -> Result<(u64, i64), SourceError>;
    /// An etcd snapshot file.
    async fn snapshot(&self) -> Result<BoxStream<'static, Result<Bytes, SourceError>>, SourceError>;
    /// All changes from revision `start` on, in order; whole revisions. The stream never ends without an error.
    async fn watch(&self, start: i64) -> Result<BoxStream<'static, Result<WatchPart, SourceError>>, SourceError>;
    /// The ids of all leases.
    async fn leases(&self) -> Result<Vec<i64>, SourceError>;
    /// The granted time to live of a lease in seconds; `None` if there is no such lease.
    async fn lease_ttl_s(&self, id: i64) -> Result<Option<i64>, SourceError>;
    /// Users and roles, unless they are as `known`. A source that cannot see passwords' hashes never says them:
    /// then only its full backups have them.
    async fn auth(&self, known: Option<AuthStatus>) -> Result<Option<AuthContent>, SourceError>;
}

/// What a watch says.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchPart {
    /// Changes, whole revisions in order.
    Events(Vec<mvccpb::Event>),
    /// Everything up to this revision was said.
    Progress(i64),
    /// The wanted revisions are gone.
    Compacted,
}

/// Why the store did not answer; tried again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);
