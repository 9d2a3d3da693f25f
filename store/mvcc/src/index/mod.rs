//! The key index: each key's versions, in memory, as persistent maps, so that a reader holds one moment of
//! it at no cost. It is rebuilt from the revisions when the store opens.

mod history;

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use crate::{record::Revision, RangeBounds};

pub use history::{History, Version};

#[derive(Clone, Default)]
pub struct Index {
    keys: OrdMap<Bytes, Arc<History>>,
}

impl Index {
    pub fn history(&self, key: &[u8]) -> Option<&History> {
        self.keys.get(key).map(|history| &**history)
    }

    /// The newest version of a key, unless it is deleted.
    pub fn live(&self, key: &[u8]) -> Option<Version> {
        self.history(key).and_then(History::last).filter(|version| !version.is_tombstone())
    }

    /// Adds the newest version of a key. Returns the key as the index holds it, in memory of its own.
    pub fn push(&mut self, key: &Bytes, version: Version) -> Bytes {
        if let Some((held, history)) = self.keys.get_key_value_mut(key) {
            let held = held.clone();
            Arc::make_mut(history).push(version);
            return held;
        }
        // The request's key is a slice of a whole message, which it would keep in memory.
        let key = Bytes::copy_from_slice(key);
        let mut history = History::default();
        history.push(version);
        self.keys.insert(key.clone(), Arc::new(history));
        key
    }

    /// The keys in `bounds` that exist at `revision`, each with its version then.
    pub fn range<'a>(
        &'a self,
        bounds: &RangeBounds,
        revision: i64,
    ) -> impl Iterator<Item = (&'a Bytes, Version)> + use<'a> {
        let (single, many) = match bounds {
            RangeBounds::Key(key) => (self.keys.get_key_value(key), None),
            _ => (None, bounds.as_map_bounds().map(|bounds| self.keys.range::<_, Bytes>(bounds))),
        };
        single.into_iter().chain(many.into_iter().flatten()).filter_map(move |(key, history)| {
            history.at(revision).filter(|version| !version.is_tombstone()).map(|version| (key, version))
        })
    }

    /// Up to `limit` keys from `start` on, each with its history.
    pub fn histories(&self, start: &[u8], limit: usize) -> impl Iterator<Item = (&Bytes, &Arc<History>)> {
        let bounds = (std::ops::Bound::Included(start), std::ops::Bound::Unbounded);
        self.keys.range::<_, [u8]>(bounds).take(limit)
    }

    /// Removes up to `limit` versions of `key` that cannot be read at `compacted` or later, oldest first.
    pub fn compact(&mut self, key: &[u8], compacted: i64, limit: usize) -> Vec<Revision> {
        let Some(history) = self.keys.get_mut(key) else { return Vec::new() };
        let history = Arc::make_mut(history);
        let removed = history.compact(compacted, limit);
        if history.last().is_none() {
            self.keys.remove(key);
        }
        removed
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Arc<History>)> {
        self.keys.iter()
    }
}
