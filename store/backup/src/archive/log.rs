//! The log of changes as a recorder writes it: what waits, and what was found at a start.

use std::{collections::BTreeMap, path::Path};

use keelstone_env::OpenMode;
use keelstone_etcd_api::mvccpb::{self, event::EventType};
use keelstone_mvcc::{AuthContent, AuthStatus};

use super::{
    folder::Folder,
    frame::{Change, Frame, LeaseMark},
    segment::{SegmentHeader, SegmentReader, SegmentWriter, HEADER_BYTES},
    SourceError,
};
use crate::BackupError;

/// Why a session with the store ended.
pub(super) enum Broken {
    /// Tried again.
    Source(SourceError),
    /// Not.
    Backup(BackupError),
}

impl From<SourceError> for Broken {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<BackupError> for Broken {
    fn from(error: BackupError) -> Self {
        Self::Backup(error)
    }
}

/// What is being written.
pub(super) struct Log {
    pub segment: Option<SegmentWriter>,
    pub through: i64,
    /// Changes that are not durable yet.
    pub pending: Vec<Change>,
    pub pending_bytes: usize,
    /// Known leases and their time to live.
    pub leases: BTreeMap<i64, i64>,
    pub new_leases: Vec<LeaseMark>,
    pub gone_leases: Vec<i64>,
    /// Which users and roles the log has.
    pub auth: Option<AuthStatus>,
    pub new_auth: Option<AuthContent>,
}

impl Log {
    pub fn after(through: i64) -> Self {
        Self {
            segment: None,
            through,
            pending: Vec::new(),
            pending_bytes: 0,
            leases: BTreeMap::new(),
            new_leases: Vec::new(),
            gone_leases: Vec::new(),
            auth: None,
            new_auth: None,
        }
    }

    pub fn learn(&mut self, id: i64, ttl_s: i64) {
        self.leases.insert(id, ttl_s);
        self.new_leases.push(LeaseMark { id, ttl_s });
    }

    /// Takes whole revisions that follow what is there.
    pub fn take(&mut self, events: Vec<mvccpb::Event>) -> Result<(), Broken> {
        for event in events {
            let deleted = event.r#type() == EventType::Delete;
            let Some(kv) = event.kv else { return Err(SourceError("an event without a key".into()).into()) };
            let last = self.pending.last().map(|change| (change.main, change.sub));
            let main = kv.mod_revision;
            let sub = match last {
                Some((last_main, last_sub)) if last_main == main => last_sub + 1,
                Some((last_main, _)) if last_main > main => return Err(out_of_order(main)),
                // Frames that are durable already say that nothing was missing: a store that lies has no backup.
                _ if main <= self.through => {
                    let through = self.through;
                    return Err(refused(format!("the store said all up to revision {through}, and then sent {main}")));
                }
                _ => 0,
            };
            let kv =
                if deleted { mvccpb::KeyValue { key: kv.key, mod_revision: main, ..Default::default() } } else { kv };
            self.pending_bytes += kv.key.len() + kv.value.len() + 64;
            self.pending.push(Change { main, sub, kv: Some(kv) });
        }
        Ok(())
    }
}

fn out_of_order(main: i64) -> Broken {
    SourceError(format!("revision {main} came out of order")).into()
}

pub(super) fn refused(what: String) -> Broken {
    BackupError::Refused(what).into()
}

/// Appends a frame to the open segment, which is made if there is none; `None` once it is closed.
pub(super) fn append(
    folder: &Folder,
    segment: Option<SegmentWriter>,
    header: SegmentHeader,
    mut frame: Frame,
    segment_bytes: u64,
) -> Result<Option<SegmentWriter>, BackupError> {
    let mut segment = match segment {
        Some(segment) => segment,
        None => SegmentWriter::create(folder.disk(), &folder.open_segment(header.first_revision), header)?,
    };
    frame.sealed = segment.length() + frame.encode_bytes().len() as u64 >= segment_bytes;
    segment.append(&frame)?;
    if !frame.sealed {
        return Ok(Some(segment));
    }
    let first = segment.header().first_revision;
    drop(segment);
    folder.rename(&folder.open_segment(first), &folder.closed_segment(first))?;
    Ok(None)
}

/// Finds the end of the newest chain, and cuts or closes what a crash left.
pub(super) fn resume(folder: &Folder) -> Result<Log, BackupError> {
    let mut log = Log::after(folder.fulls()?.last().map_or(0, |full| full.revision));
    let Some(newest) = folder.segments()?.pop() else { return Ok(log) };
    let mut through = newest.first_revision - 1;
    let mut sealed = false;
    let mut each = |frame: Frame| {
        through = frame.through;
        sealed = frame.sealed;
        log.leases.extend(frame.leases.iter().map(|lease| (lease.id, lease.ttl_s)));
        frame.leases_gone.iter().for_each(|id| {
            log.leases.remove(id);
        });
        log.auth = frame.auth.as_ref().map(AuthContent::status).or(log.auth);
    };
    if newest.is_open {
        let segment = match SegmentWriter::resume(folder.disk(), &newest.path, &mut each) {
            // Not even its header was durable: nothing is lost with it.
            Err(BackupError::Damaged(_)) if is_headless(folder, &newest.path)? => {
                folder.remove(&newest.path)?;
                return resume(folder);
            }
            resumed => resumed?,
        };
        if sealed {
            drop(segment);
            folder.rename(&newest.path, &folder.closed_segment(newest.first_revision))?;
        } else {
            log.segment = Some(segment);
        }
    } else {
        let mut reader = SegmentReader::open(folder.disk(), &newest.path, false)?;
        while let Some(frame) = reader.next()? {
            each(frame);
        }
    }
    // A full backup may be ahead of the log that ran beside it; the log goes on where it was.
    log.through = through;
    Ok(log)
}

fn is_headless(folder: &Folder, path: &Path) -> Result<bool, BackupError> {
    let file = folder.disk().open(path, OpenMode::Read).map_err(BackupError::at(path))?;
    Ok(file.len()? < HEADER_BYTES as u64)
}
