use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keelstone_mvcc::{AuthContent, Import, ImportHead, LeaseInfo, Mvcc, Row};

use super::{folder::Folder, frame::Frame, plan::Plan, segment::SegmentReader};
use crate::{
    constants::LEASE_TTL_S_UNKNOWN,
    etcd::{EtcdFile, ImportPlace},
    BackupError,
};

/// Fills `mvcc` with the state of a planned moment; returns its revision then. Blocks.
pub fn restore(folder: &Folder, plan: &Plan, mvcc: &Mvcc, place: ImportPlace) -> Result<i64, BackupError> {
    let full = EtcdFile::open(folder.disk(), &plan.full.path, false)?;
    let head = full.head()?;
    if head.revision != plan.full.revision {
        return Err(BackupError::damaged(format!("{} holds revision {}", plan.full.path.display(), head.revision)));
    }
    let (revision, compacted) = place.epoch.apply(plan.revision, head.compacted)?;
    let hash = effects_hash(&full, plan);
    let import = mvcc.begin_import(ImportHead { revision, compacted, hash, applied: place.applied })?;
    let mut filling = Filling { import, leases: Leases::default(), auth: head.auth };
    head.leases.iter().for_each(|lease| filling.leases.seen(*lease));
    let mut rows = full.rows();
    while let Some(row) = rows.next()? {
        filling.row(row)?;
    }
    let mut through = plan.full.revision;
    for segment in &plan.segments {
        let mut reader = SegmentReader::open(folder.disk(), &segment.path, segment.is_open)?;
        while let Some(frame) = reader.next()? {
            through = filling.frame(frame, through, plan.revision)?;
        }
    }
    if through != plan.revision {
        return Err(BackupError::damaged(format!("the log ends at revision {through}, not {}", plan.revision)));
    }
    filling.finish()?;
    Ok(revision)
}

/// Equal for members that are restored from equal files to the same moment.
fn effects_hash(full: &EtcdFile, plan: &Plan) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&full.digest[..8]);
    u64::from_be_bytes(first) ^ plan.revision.unsigned_abs().rotate_left(32)
}

struct Filling {
    import: Import,
    leases: Leases,
    /// As last said at or before the wanted revision: users and roles have no place in the order of changes.
    auth: AuthContent,
}

impl Filling {
    fn row(&mut self, row: Row) -> Result<(), BackupError> {
        self.leases.row(&row);
        Ok(self.import.row(row)?)
    }

    /// Takes what of a frame lies after `through` and not after `end`; returns how far the state is then.
    fn frame(&mut self, frame: Frame, through: i64, end: i64) -> Result<i64, BackupError> {
        frame.leases.iter().for_each(|lease| self.leases.known(LeaseInfo { id: lease.id, ttl_s: lease.ttl_s }));
        if let Some(auth) = frame.auth.filter(|_| frame.through <= end) {
            self.auth = auth;
        }
        if through >= end {
            return Ok(through);
        }
        frame.leases.iter().for_each(|lease| self.leases.seen(LeaseInfo { id: lease.id, ttl_s: lease.ttl_s }));
        if frame.through <= end {
            frame.leases_gone.iter().for_each(|id| self.leases.gone(*id));
        }
        let reached = frame.through.min(end);
        for change in frame.changes {
            if change.main > through && change.main <= end {
                self.row(change.into_row())?;
            }
        }
        Ok(reached.max(through))
    }

    fn finish(mut self) -> Result<(), BackupError> {
        for lease in self.leases.finish() {
            self.import.lease(lease)?;
        }
        self.import.auth(&self.auth)?;
        Ok(self.import.finish()?)
    }
}

/// Which leases there are. They are recorded beside the changes, not in order with them: a lease that a key
/// hangs on exists, whatever was recorded.
#[derive(Default)]
struct Leases {
    live: BTreeSet<i64>,
    ttls_s: BTreeMap<i64, i64>,
    /// Keys that hang on one; others are not held.
    keys: BTreeMap<Bytes, i64>,
}

impl Leases {
    fn known(&mut self, lease: LeaseInfo) {
        self.ttls_s.insert(lease.id, lease.ttl_s);
    }

    fn seen(&mut self, lease: LeaseInfo) {
        self.known(lease);
        self.live.insert(lease.id);
    }

    fn gone(&mut self, id: i64) {
        self.live.remove(&id);
    }

    fn row(&mut self, row: &Row) {
        if row.kv.lease != 0 {
            // A copy: a slice would keep a whole page.
            self.keys.insert(Bytes::copy_from_slice(&row.kv.key), row.kv.lease);
        } else if !self.keys.is_empty() {
            self.keys.remove(&row.kv.key);
        }
    }

    fn finish(mut self) -> Vec<LeaseInfo> {
        self.live.extend(self.keys.values());
        let ttl_s = |id| self.ttls_s.get(id).copied().filter(|ttl_s| *ttl_s > 0).unwrap_or(LEASE_TTL_S_UNKNOWN);
        self.live.iter().map(|id| LeaseInfo { id: *id, ttl_s: ttl_s(id) }).collect()
    }
}
