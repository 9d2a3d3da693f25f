use std::sync::Arc;

use imbl::Vector;

use crate::{constants::HISTORY_BLOCK_VERSIONS_MAX, record::Revision};

/// One version of a key; a deletion if `version` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    pub at: Revision,
    pub create: i64,
    pub version: i64,
    pub lease: i64,
}

impl Version {
    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}

/// The versions of one key, oldest first. Adding one copies at most a block, however long the history is.
#[derive(Clone, Default)]
pub struct History {
    /// Full blocks, for keys with many versions only.
    older: Option<Box<Vector<Arc<[Version]>>>>,
    /// The newest versions. Empty only if there are none at all.
    recent: Vec<Version>,
}

impl History {
    pub fn push(&mut self, version: Version) {
        if self.recent.len() == HISTORY_BLOCK_VERSIONS_MAX {
            let block = std::mem::take(&mut self.recent);
            self.older.get_or_insert_default().push_back(block.into());
        }
        self.recent.push(version);
    }

    pub fn last(&self) -> Option<Version> {
        self.recent.last().copied()
    }

    /// The version that was current at the end of main revision `main`.
    pub fn at(&self, main: i64) -> Option<Version> {
        match self.recent.last() {
            Some(last) if last.at.main <= main => Some(*last),
            _ => self.last_where(|version| version.at.main <= main),
        }
    }

    /// The version before the one written at `at`.
    pub fn before(&self, at: Revision) -> Option<Version> {
        self.last_where(|version| version.at < at)
    }

    /// The last version for which `holds`, which must hold for a prefix.
    fn last_where(&self, holds: impl Fn(&Version) -> bool) -> Option<Version> {
        let in_block = |block: &[Version]| {
            let count = block.partition_point(&holds);
            count.checked_sub(1).map(|last| block[last])
        };
        if let Some(found) = in_block(&self.recent) {
            return Some(found);
        }
        let older = self.older.as_deref()?;
        let blocks = partition_point(older.len(), |i| holds(&older[i][0]));
        in_block(&older[blocks.checked_sub(1)?])
    }

    /// All versions, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Version> {
        self.older.iter().flat_map(|blocks| blocks.iter()).flat_map(|block| block.iter()).chain(&self.recent)
    }

    /// Whether the version written at `at` can still be read (or watched) once `compacted` is compacted: it is
    /// younger, or the last up to there. A deletion is kept only at exactly `compacted`, for watches that start
    /// there.
    pub fn survives(&self, at: Revision, compacted: i64) -> bool {
        at.main > compacted
            || self.at(compacted).is_some_and(|v| v.at == at && (!v.is_tombstone() || at.main == compacted))
    }

    pub fn has_dead(&self, compacted: i64) -> bool {
        self.iter().next().is_some_and(|oldest| !self.survives(oldest.at, compacted))
    }

    /// Removes up to `limit` versions that do not survive, oldest first, and returns where they were.
    pub fn compact(&mut self, compacted: i64, limit: usize) -> Vec<Revision> {
        let removed: Vec<Revision> =
            self.iter().map(|v| v.at).take_while(|at| !self.survives(*at, compacted)).take(limit).collect();
        self.drop_oldest(removed.len());
        removed
    }

    fn drop_oldest(&mut self, mut count: usize) {
        while let Some(block) = self.older.as_deref_mut().and_then(|older| older.pop_front()) {
            if count < block.len() {
                if let Some(older) = self.older.as_deref_mut() {
                    older.push_front(block[count..].into());
                }
                return;
            }
            count -= block.len();
        }
        self.older = None;
        self.recent.drain(..count);
    }
}

fn partition_point(length: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = (low + high) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(main: i64, tombstone: bool) -> Version {
        Version { at: Revision { main, sub: 0 }, create: 1, version: i64::from(!tombstone) * main, lease: 0 }
    }

    fn mains(history: &History) -> Vec<i64> {
        history.iter().map(|v| v.at.main).collect()
    }

    #[test]
    fn long_histories_are_searched_and_compacted() {
        let mut history = History::default();
        (1..=200).for_each(|main| history.push(version(main * 2, false)));
        for main in 2..=400 {
            assert_eq!(history.at(main).unwrap().at.main, main / 2 * 2);
            let before = history.before(Revision { main, sub: 0 }).map(|v| v.at.main);
            assert_eq!(before, Some((main - 1) / 2 * 2).filter(|m| *m > 0));
        }
        assert_eq!(history.at(1), None);
        let shared = history.clone();
        let mut removed = Vec::new();
        while history.has_dead(301) {
            removed.extend(history.compact(301, 7));
        }
        assert_eq!(removed.iter().map(|r| r.main).collect::<Vec<_>>(), (1..150).map(|m| m * 2).collect::<Vec<_>>());
        assert_eq!(mains(&history), (150..=200).map(|m| m * 2).collect::<Vec<_>>());
        assert_eq!(mains(&shared).len(), 200);
        for main in 301..=400 {
            assert_eq!(history.at(main).unwrap().at.main, main / 2 * 2);
        }
    }

    #[test]
    fn a_deletion_is_kept_only_at_the_compacted_revision() {
        let mut history = History::default();
        [version(1, false), version(2, true), version(5, false), version(6, true)]
            .into_iter()
            .for_each(|v| history.push(v));
        let after = |compacted| {
            let mut history = history.clone();
            history.compact(compacted, 100);
            mains(&history)
        };
        assert_eq!(after(1), [1, 2, 5, 6]);
        assert_eq!(after(2), [2, 5, 6]);
        assert_eq!(after(3), [5, 6]);
        assert_eq!(after(5), [5, 6]);
        assert_eq!(after(6), [6]);
        assert_eq!(after(7), [0; 0]);
    }
}
