use keelstone_mvcc::MvccError;
use keelstone_raft::RaftError;

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configuration is wrong; the text says what and where.
    #[error("{0}")]
    Config(String),
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: String, cause: std::io::Error },
    #[error("TLS material of {whom} cannot be used: {cause}")]
    Tls { whom: &'static str, cause: std::io::Error },
    /// What a running cluster answered.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Mvcc(#[from] MvccError),
    #[error(transparent)]
    Backup(#[from] keelstone_backup::BackupError),
    #[error(transparent)]
    Raft(#[from] RaftError),
}
