use bytes::Bytes;
use keelstone_engine::{Column, Direction, RangeRequest, Snapshot};

use super::{counts::Changed, rows, KeyCounts, Version};
use crate::{constants::BUCKET_KEYS_MAX, record::Revision, staged::Staged, MvccError};

/// Adds versions to the index.
pub struct IndexWriter<'a> {
    pub staged: &'a mut Staged,
    pub counts: &'a mut KeyCounts,
    pub generation: u8,
}

impl IndexWriter<'_> {
    /// A key got a new version; `prev` is the one before, if the key existed.
    pub fn put(&mut self, key: &Bytes, version: Version, prev: Option<Version>) -> Result<(), MvccError> {
        self.staged.put(Column::Index, rows::current(self.generation, key), version.encode());
        self.attach(key, prev.map_or(0, |prev| prev.lease), version.lease);
        match prev {
            Some(prev) => {
                self.replaced(key, prev);
                Ok(())
            }
            None => self.born(key, version.at),
        }
    }

    /// A key was deleted at `at`; `prev` was its last version.
    pub fn delete(&mut self, key: &Bytes, at: Revision, prev: Version) {
        self.staged.delete(Column::Index, rows::current(self.generation, key));
        self.attach(key, prev.lease, 0);
        self.replaced(key, prev);
        self.replaced(key, Version { at, ..Version::default() });
        let turn = rows::Turn::Gone { key: key.clone(), create: prev.create };
        self.staged.put(Column::Index, rows::turn(self.generation, at), turn.encode());
        let changed = self.counts.gone(key);
        self.write_bucket(&changed);
    }

    /// A deletion whose versions before it were compacted.
    pub fn lone_tombstone(&mut self, key: &[u8], at: Revision) {
        self.replaced(key, Version { at, ..Version::default() });
    }

    fn replaced(&mut self, key: &[u8], version: Version) {
        self.staged.put(Column::Index, rows::history(self.generation, key, version.at), version.encode());
    }

    fn born(&mut self, key: &Bytes, at: Revision) -> Result<(), MvccError> {
        let turn = rows::Turn::Born { key: key.clone() };
        self.staged.put(Column::Index, rows::turn(self.generation, at), turn.encode());
        let changed = self.counts.born(key);
        if changed.keys as usize > BUCKET_KEYS_MAX {
            return self.split(&changed);
        }
        self.write_bucket(&changed);
        Ok(())
    }

    /// Cuts a bucket in its middle.
    fn split(&mut self, full: &Changed) -> Result<(), MvccError> {
        let half = full.keys / 2;
        let page = self.staged.range(&RangeRequest {
            column: Column::Index,
            start: rows::current(self.generation, &full.fence),
            end: Some(rows::current_end(self.generation)),
            direction: Direction::Ascending,
            limit: half as usize + 1,
        })?;
        // A page ends early if its keys are huge: then the cut is elsewhere.
        let Some((row, _)) = page.pairs.last().filter(|_| page.pairs.len() > 1) else {
            self.write_bucket(full);
            return Ok(());
        };
        let fence = Bytes::copy_from_slice(&rows::current_key(row));
        let before = u32::try_from(page.pairs.len() - 1).unwrap_or(half);
        let right = full.keys - before;
        let left = self.counts.split(&fence, right);
        self.write_bucket(&left);
        self.write_bucket(&Changed { fence, keys: right, removed: None });
        Ok(())
    }

    fn write_bucket(&mut self, changed: &Changed) {
        let keys = Bytes::copy_from_slice(&changed.keys.to_be_bytes());
        self.staged.put(Column::Index, rows::bucket(self.generation, &changed.fence), keys);
        if let Some(removed) = &changed.removed {
            self.staged.delete(Column::Index, rows::bucket(self.generation, removed));
        }
    }

    fn attach(&mut self, key: &[u8], old: i64, new: i64) {
        if old == new {
            return;
        }
        if old != 0 {
            self.staged.delete(Column::Index, rows::attached(self.generation, old, key));
        }
        if new != 0 {
            self.staged.put(Column::Index, rows::attached(self.generation, new, key), Bytes::new());
        }
    }

    /// `revision` was the newest one at that time.
    pub fn moment(&mut self, unix_ms: i64, revision: i64) {
        let value = Bytes::copy_from_slice(&revision.to_be_bytes());
        self.staged.put(Column::Index, rows::moment(self.generation, unix_ms), value);
    }
}
