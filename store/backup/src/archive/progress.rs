use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::folder::Folder;
use crate::BackupError;

/// How far a backup is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub version: u32,
    pub cluster_id: u64,
    /// Every revision up to here can be restored; 0 before the first full backup.
    pub revision: i64,
    /// When that was known, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The store's newest revision, as last seen.
    pub store_revision: i64,
    /// Why the store does not answer, if it does not.
    pub error: Option<String>,
}

impl Progress {
    /// Revisions of the store that the backup does not hold yet.
    pub fn behind_revisions(&self) -> i64 {
        (self.store_revision - self.revision).max(0)
    }
}

fn progress_path(folder: &Folder) -> PathBuf {
    folder.dir().join("state.json")
}

pub(super) fn write_progress(folder: &Folder, progress: &Progress) -> Result<(), BackupError> {
    let path = progress_path(folder);
    let text = serde_json::to_vec_pretty(progress).map_err(|error| BackupError::refused(error.to_string()))?;
    folder.disk().write_atomically(&path, &text).map_err(BackupError::at(path))
}

/// What the folder says of itself, if it does.
pub fn read_progress(folder: &Folder) -> Result<Option<Progress>, BackupError> {
    let path = progress_path(folder);
    if !folder.disk().exists(&path) {
        return Ok(None);
    }
    let text = folder.disk().read(&path).map_err(BackupError::at(&path))?;
    let damaged = |error: serde_json::Error| BackupError::damaged(format!("{}: {error}", path.display()));
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}
