use std::{io, path::PathBuf, sync::Arc};

/// Why the log cannot do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalError {
    /// The disk failed, other than by being full, which writes wait out. A log that failed once refuses everything until it is opened again: after a failed
    /// fsync nobody knows what is durable.
    #[error("log I/O failed: {0}")]
    Io(Arc<io::Error>),
    /// Data that had been durable is damaged. This member must not go on.
    #[error("log is corrupt at byte {offset} of {}: {reason}", segment.display())]
    Corrupt { segment: PathBuf, offset: u64, reason: String },
    /// The caller broke the log's order.
    #[error("log misuse: {0}")]
    Misuse(String),
    /// The log was closed.
    #[error("log is closed")]
    Closed,
}

impl From<io::Error> for WalError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<WalError> for io::Error {
    fn from(error: WalError) -> Self {
        match &error {
            WalError::Io(inner) => io::Error::new(inner.kind(), error),
            WalError::Corrupt { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
            WalError::Misuse(_) => io::Error::new(io::ErrorKind::InvalidInput, error),
            WalError::Closed => io::Error::new(io::ErrorKind::BrokenPipe, error),
        }
    }
}
