use keelstone_mvcc::{Applied, ImportHead, Mvcc};

use super::EtcdFile;
use crate::BackupError;

/// How a restored cluster's revisions follow those that clients have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Added to the revision that the restored data has.
    pub bump_revisions: i64,
    /// Whether everything before the new revision counts as compacted, so that watches of the time before the
    /// restore end with the compaction error instead of missing what is not there any more.
    pub mark_compacted: bool,
}

impl Epoch {
    /// Revision and compacted revision of the restored store.
    ///
    /// # Errors
    /// If a bump is negative or too large.
    pub fn apply(&self, revision: i64, compacted: i64) -> Result<(i64, i64), BackupError> {
        let bumped = revision.checked_add(self.bump_revisions).filter(|_| self.bump_revisions >= 0);
        // Revisions to come need room.
        let Some(bumped) = bumped.filter(|bumped| *bumped < i64::MAX / 2) else {
            return Err(BackupError::refused(format!("a revision cannot be raised by {}", self.bump_revisions)));
        };
        Ok((bumped, if self.mark_compacted { bumped } else { compacted }))
    }
}

/// Where a restored member begins: what its new log says.
#[derive(Clone, Debug)]
pub struct ImportPlace {
    pub applied: Applied,
    pub epoch: Epoch,
}

/// Fills `mvcc` from a snapshot file; returns the revision that it has then. Alarms are left out: they are
/// about members that are no more. Blocks.
pub fn import(file: &EtcdFile, mvcc: &Mvcc, place: ImportPlace) -> Result<i64, BackupError> {
    let head = file.head()?;
    let (revision, compacted) = place.epoch.apply(head.revision, head.compacted)?;
    let mut hash = [0; 8];
    hash.copy_from_slice(&file.digest[..8]);
    let hash = u64::from_be_bytes(hash);
    let mut import = mvcc.begin_import(ImportHead { revision, compacted, hash, applied: place.applied })?;
    let mut rows = file.rows();
    while let Some(row) = rows.next()? {
        import.row(row)?;
    }
    for lease in head.leases {
        import.lease(lease)?;
    }
    import.auth(&head.auth)?;
    import.finish()?;
    Ok(revision)
}
