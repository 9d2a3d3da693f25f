use std::{path::Path, sync::Arc};

use futures::StreamExt;
use keelstone_env::{Env, OpenMode};

use super::{status, EtcdFile, SnapshotStatus};
use crate::{archive::Source, BackupError};

/// Saves a snapshot of a running store in `path`, which must not exist: received beside it, checked, then
/// named.
///
/// # Errors
/// If the store or the disk fails, or what came is not whole.
pub async fn save(env: &Env, source: &dyn Source, path: &Path) -> Result<SnapshotStatus, BackupError> {
    if env.disk().exists(path) {
        return Err(BackupError::refused(format!("{} is there already", path.display())));
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = std::path::PathBuf::from(part);
    let saved = receive(env, source, &part, path).await;
    if saved.is_err() {
        // Nothing may be there yet.
        let _ = env.disk().remove_file(&part);
    }
    saved
}

async fn receive(env: &Env, source: &dyn Source, part: &Path, path: &Path) -> Result<SnapshotStatus, BackupError> {
    let failed = |error: crate::archive::SourceError| BackupError::refused(error.to_string());
    let mut stream = source.snapshot().await.map_err(failed)?;
    let mut file = env.disk().open(part, OpenMode::Truncate).map_err(BackupError::at(part))?;
    let mut offset = 0;
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(failed)?;
        let at = offset;
        offset += bytes.len() as u64;
        let write = move || file.write_all_at(&bytes, at).map(|()| file);
        file = env.offload(write).await.map_err(BackupError::at(part))?;
    }
    let (disk, part, path) = (Arc::clone(env.disk()), part.to_owned(), path.to_owned());
    let finish = move || {
        file.sync().map_err(BackupError::at(&part))?;
        let status = status(&EtcdFile::open(&*disk, &part, false)?)?;
        disk.rename(&part, &path).map_err(BackupError::at(&path))?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            disk.sync_dir(dir).map_err(BackupError::at(dir))?;
        }
        Ok(status)
    };
    env.offload(finish).await
}
