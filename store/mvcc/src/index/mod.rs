//! The key index: rows in the engine that find a key's versions, and counts of keys in memory. A reader has one
//! moment of both. What each row is, [`rows`] says; `docs/decisions` why.

mod build;
mod counts;
pub mod rows;
mod version;
mod write;

use std::collections::BTreeSet;

use bytes::Bytes;
use keelstone_engine::{Column, Direction, Page, RangeRequest, Snapshot};
use keelstone_etcd_api::mvccpb;

use crate::{constants::INDEX_PAGE_ROWS, load::after, recent::Recent, record::Revision, MvccError, RangeBounds};

pub use build::build;
pub use counts::{Bucket, KeyCounts};
pub use version::Version;
pub use write::IndexWriter;

/// One moment of the index.
#[derive(Clone, Copy)]
pub struct Index<'a> {
    pub rows: &'a dyn Snapshot,
    pub counts: &'a KeyCounts,
    pub recent: &'a Recent,
    /// The rows may be newer than what `recent` knows, and say themselves what it does.
    pub is_staged: bool,
    pub generation: u8,
    /// The newest revision, or the one that an open txn is making.
    pub revision: i64,
}

impl Index<'_> {
    /// The newest version of a key, unless it is deleted.
    pub fn live(&self, key: &[u8]) -> Result<Option<Version>, MvccError> {
        let row = rows::current(self.generation, key);
        if !self.is_staged {
            if let Some(version) = self.recent.version(&row, self.revision) {
                return Ok(Some(version));
            }
        }
        let row = self.rows.get(Column::Index, &row)?;
        row.map(|row| Version::decode(&row)).transpose()
    }

    /// The record of `key` that was written at `at`, if it is remembered.
    pub fn recent_record(&self, key: &[u8], at: Revision) -> Option<Bytes> {
        self.recent.record(&rows::current(self.generation, key), at)
    }

    /// The version that was current at the end of main revision `main`, unless the key did not exist then.
    pub fn at(&self, key: &[u8], main: i64) -> Result<Option<Version>, MvccError> {
        match self.live(key)? {
            Some(version) if version.at.main <= main => Ok(Some(version)),
            _ => self.replaced_at(key, main),
        }
    }

    /// As [`Index::at`] for a key whose newest version is younger than `main`, or which is deleted.
    fn replaced_at(&self, key: &[u8], main: i64) -> Result<Option<Version>, MvccError> {
        let found = self.before(key, Revision { main: main.saturating_add(1), sub: 0 })?;
        Ok(found.filter(|version| !version.is_tombstone()))
    }

    /// The newest of the replaced versions of `key` before `at`; it may be a deletion.
    pub fn before(&self, key: &[u8], at: Revision) -> Result<Option<Version>, MvccError> {
        let (start, end) = rows::history_before(self.generation, key, at);
        let page = self.rows.range(&RangeRequest {
            column: Column::Index,
            start,
            end: Some(end),
            direction: Direction::Descending,
            limit: 1,
        })?;
        page.pairs.first().map(|(_, value)| Version::decode(value)).transpose()
    }

    /// Whether the key-value written at `at` can be read or watched once `compacted` is compacted: it is younger,
    /// the last of its key up to there, or a deletion at exactly `compacted`, for watches that start there.
    pub fn survives(&self, at: Revision, kv: &mvccpb::KeyValue, compacted: i64) -> Result<bool, MvccError> {
        if at.main > compacted || (kv.version == 0 && at.main == compacted) {
            return Ok(true);
        }
        Ok(kv.version > 0 && self.at(&kv.key, compacted)?.is_some_and(|version| version.at == at))
    }

    /// The first `max` keys in `bounds` that exist at `main`, each with its version then.
    pub fn page(&self, bounds: &RangeBounds, main: i64, max: usize) -> Result<Vec<(Bytes, Version)>, MvccError> {
        if let RangeBounds::Key(key) = bounds {
            return Ok(self.at(key, main)?.map(|version| (key.clone(), version)).into_iter().collect());
        }
        let mut found = Vec::new();
        let mut gone = if main < self.revision { self.gone_since(bounds, main, max)? } else { BTreeSet::new() };
        self.each_current(bounds, max, |key, version| {
            while let Some(before) = gone.first().filter(|first| **first < key).cloned() {
                gone.remove(&before);
                if let Some(version) = self.replaced_at(&before, main)? {
                    found.push((before, version));
                }
            }
            gone.remove(&key);
            let then = if version.at.main <= main { Some(version) } else { self.replaced_at(&key, main)? };
            if let Some(then) = then {
                found.push((key, then));
            }
            Ok(found.len() < max)
        })?;
        for key in gone {
            if found.len() >= max {
                break;
            }
            if let Some(version) = self.replaced_at(&key, main)? {
                found.push((key, version));
            }
        }
        found.truncate(max);
        Ok(found)
    }

    /// How many keys in `bounds` exist at `main`: O(log n) now, and O(keys that began or ceased to exist since)
    /// for an older revision.
    pub fn count(&self, bounds: &RangeBounds, main: i64) -> Result<i64, MvccError> {
        let now = match bounds {
            RangeBounds::Key(key) => return Ok(i64::from(self.at(key, main)?.is_some())),
            RangeBounds::Range(start, end) if start >= end => return Ok(0),
            RangeBounds::Range(start, end) => self.rank(end)? - self.rank(start)?,
            RangeBounds::From(start) => number(self.counts.total()) - self.rank(start)?,
        };
        if main >= self.revision {
            return Ok(now);
        }
        let mut then = now;
        self.each_turn(bounds, main, |turn| {
            then += if matches!(turn, rows::Turn::Gone { .. }) { 1 } else { -1 };
        })?;
        Ok(then)
    }

    /// How many keys before `key` exist now.
    fn rank(&self, key: &Bytes) -> Result<i64, MvccError> {
        let (bucket, before) = self.counts.locate(key);
        if bucket.fence == *key {
            return Ok(number(before));
        }
        let row = |key: &[u8]| rows::current(self.generation, key);
        Ok(number(before + self.rows.count(Column::Index, &row(&bucket.fence), &row(key))?))
    }

    /// The keys attached to a lease, in order.
    pub fn attached(&self, lease: i64) -> Result<Vec<Bytes>, MvccError> {
        let mut keys = Vec::new();
        let (start, end) = rows::attached_to(self.generation, lease);
        self.each_row(start, end, usize::MAX, |row, _| {
            keys.push(rows::attached_key(&row));
            Ok(true)
        })?;
        Ok(keys)
    }

    /// The newest revision that is known to have been written by that time, by the proposers' wall clocks.
    pub fn revision_at(&self, unix_ms: i64) -> Result<Option<i64>, MvccError> {
        Ok(self.moment_upto(unix_ms)?.map(|(_, revision)| revision))
    }

    /// The last noted time, and the revision that was the newest then.
    pub fn last_moment(&self) -> Result<Option<(i64, i64)>, MvccError> {
        self.moment_upto(i64::MAX - 1)
    }

    fn moment_upto(&self, unix_ms: i64) -> Result<Option<(i64, i64)>, MvccError> {
        let (start, end) = rows::moments_upto(self.generation, unix_ms);
        let page = self.rows.range(&RangeRequest {
            column: Column::Index,
            start,
            end: Some(end),
            direction: Direction::Descending,
            limit: 1,
        })?;
        page.pairs.first().map(|(key, value)| rows::parse_moment(key, value)).transpose()
    }

    /// Up to `max` keys in `bounds`, the first ones, that existed at `main` and have been deleted since; some of
    /// them exist again.
    fn gone_since(&self, bounds: &RangeBounds, main: i64, max: usize) -> Result<BTreeSet<Bytes>, MvccError> {
        let mut gone = BTreeSet::new();
        self.each_turn(bounds, main, |turn| {
            if let rows::Turn::Gone { key, create } = turn {
                if create <= main {
                    gone.insert(key);
                }
                if gone.len() > max {
                    gone.pop_last();
                }
            }
        })?;
        Ok(gone)
    }

    fn each_turn(
        &self,
        bounds: &RangeBounds,
        after_main: i64,
        mut each: impl FnMut(rows::Turn),
    ) -> Result<(), MvccError> {
        let (start, end) = rows::turns_after(self.generation, after_main);
        self.each_row(start, end, usize::MAX, |_, value| {
            let turn = rows::Turn::decode(&value)?;
            if bounds.contains(turn.key()) {
                each(turn);
            }
            Ok(true)
        })
    }

    /// Calls `each` with the keys in `bounds` that exist now, in order, until it returns false. About `wanted`
    /// rows are read at a time.
    pub fn each_current(
        &self,
        bounds: &RangeBounds,
        wanted: usize,
        mut each: impl FnMut(Bytes, Version) -> Result<bool, MvccError>,
    ) -> Result<(), MvccError> {
        let Some((start, end)) = rows::current_bounds(self.generation, bounds) else { return Ok(()) };
        self.each_row(start, end, wanted, |row, value| each(rows::current_key(&row), Version::decode(&value)?))
    }

    fn each_row(
        &self,
        mut start: Bytes,
        end: Bytes,
        wanted: usize,
        mut each: impl FnMut(Bytes, Bytes) -> Result<bool, MvccError>,
    ) -> Result<(), MvccError> {
        loop {
            let Page { pairs, more } = self.rows.range(&RangeRequest {
                column: Column::Index,
                start,
                end: Some(end.clone()),
                direction: Direction::Ascending,
                limit: wanted.clamp(1, INDEX_PAGE_ROWS),
            })?;
            let Some(last) = pairs.last().map(|(row, _)| after(row)) else { return Ok(()) };
            for (row, value) in pairs {
                if !each(row, value)? {
                    return Ok(());
                }
            }
            if !more {
                return Ok(());
            }
            start = last;
        }
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
