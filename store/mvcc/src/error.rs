use keelstone_engine::EngineError;

/// Why the state machine itself failed. A request that is refused is an
/// [`ApiError`](keelstone_etcd_api::ApiError) in its reply instead.
#[derive(Debug, thiserror::Error)]
pub enum MvccError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The data on disk does not make sense: this member must not go on.
    #[error("store data is corrupt: {0}")]
    Corrupt(String),
    /// The entries do not follow what was applied.
    #[error("entry {got} does not follow applied entry {applied}")]
    OutOfOrder { applied: u64, got: u64 },
    /// A snapshot's chunks are damaged, incomplete or out of order.
    #[error("snapshot is invalid: {0}")]
    Snapshot(String),
}
