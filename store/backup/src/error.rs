use std::{io, path::PathBuf};

use keelstone_mvcc::MvccError;

/// Why a backup could not be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: io::Error },
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    /// The bytes are not what they should be; the text says what is wrong and where.
    #[error("damaged: {0}")]
    Damaged(String),
    /// What was asked for cannot be done with what there is.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Mvcc(#[from] MvccError),
}

impl BackupError {
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    pub fn refused(what: impl Into<String>) -> Self {
        Self::Refused(what.into())
    }

    /// Names the file of a failure.
    pub fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, cause }
    }
}
