use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tokio::{sync::watch, time::Instant};

use crate::{
    change::Change,
    constants::{LIST_SNAPSHOTS_MAX, LIST_SNAPSHOT_KEPT, WATCH_RING_EVENTS_MAX},
    StorageConfig, StoredObject,
};

/// The cache of one resource: its objects and the newest changes.
pub struct ResourceCache {
    pub config: StorageConfig,
    pub root: String,
    state: RwLock<State>,
    /// Counts the changes; watchers wait on it.
    version: watch::Sender<u64>,
}

/// All objects of a resource at one revision, for the pages of a list.
pub type Snapshot = Arc<Vec<StoredObject>>;

#[derive(Default)]
pub struct State {
    objects: BTreeMap<Box<str>, StoredObject>,
    /// Every change after `ring_base`, in revision order.
    ring: VecDeque<Arc<Change>>,
    /// The sequence number of the ring's first change.
    ring_first: u64,
    /// Changes up to this revision may have left the ring.
    ring_base: i64,
    /// The objects are the state at this revision: that of their fill, or of their last change, or up to which they
    /// followed the feed.
    revision: i64,
    /// Objects were loaded at least once.
    filled: bool,
    /// Changes that arrived while a fill is under way; `None`: the objects follow the feed.
    pending: Option<Vec<Change>>,
    /// `pending` became too long: the fill must begin again.
    overflowed: bool,
    /// Everything up to this revision came with the last fill.
    fill_revision: i64,
    /// Counts the fills that were asked for; a list read for an earlier one does not count.
    fill_generation: u64,
    /// A task is filling the cache.
    filling: bool,
    snapshots: BTreeMap<i64, (Instant, Snapshot)>,
}

impl State {
    /// Objects whose key begins with `prefix`.
    pub fn objects_under(&self, prefix: &str) -> Vec<StoredObject> {
        if prefix.is_empty() {
            return self.objects.values().cloned().collect();
        }
        self.objects
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, object)| object.clone())
            .collect()
    }

    pub fn object(&self, key: &str) -> Option<&StoredObject> {
        self.objects.get(key)
    }

    pub fn filled(&self) -> bool {
        self.filled
    }

    /// The objects follow the feed, so that they are as fresh as it is.
    pub fn current(&self) -> bool {
        self.filled && self.pending.is_none()
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn ring_base(&self) -> i64 {
        self.ring_base
    }

    /// The sequence number that the next change will have.
    pub fn next_sequence(&self) -> u64 {
        self.ring_first + self.ring.len() as u64
    }

    /// The sequence number of the first change after `revision`; `None` if such changes may have left the ring.
    pub fn sequence_after(&self, revision: i64) -> Option<u64> {
        (revision >= self.ring_base)
            .then(|| self.ring_first + self.ring.partition_point(|c| c.revision() <= revision) as u64)
    }

    /// Up to `max` changes from `sequence` on; `None` if they have left the ring.
    pub fn changes_from(&self, sequence: u64, max: usize) -> Option<Vec<Arc<Change>>> {
        let skip = usize::try_from(sequence.checked_sub(self.ring_first)?).ok()?;
        Some(self.ring.iter().skip(skip).take(max).cloned().collect())
    }

    /// The snapshot of all objects at `revision`, if one was kept.
    pub fn snapshot(&self, revision: i64) -> Option<Snapshot> {
        self.snapshots.get(&revision).map(|(_, snapshot)| snapshot.clone())
    }

    /// Keeps all objects, which are the state at `revision`, for the following pages of a list. What no list
    /// came back for in time is dropped: the store serves its pages.
    pub fn keep_snapshot(&mut self, revision: i64, now: Instant) {
        self.snapshots.retain(|_, (kept_at, _)| now < *kept_at + LIST_SNAPSHOT_KEPT);
        if self.snapshots.contains_key(&revision) {
            return;
        }
        while self.snapshots.len() >= LIST_SNAPSHOTS_MAX {
            self.snapshots.pop_first();
        }
        self.snapshots.insert(revision, (now, Arc::new(self.objects.values().cloned().collect())));
    }

    /// The last page was served.
    pub fn drop_snapshot(&mut self, revision: i64) {
        self.snapshots.remove(&revision);
    }

    fn apply(&mut self, change: Change) {
        if change.revision() <= self.fill_revision {
            return;
        }
        match change.new_object() {
            Some(object) => {
                self.objects.insert(object.key().into(), object.clone());
            }
            None => {
                self.objects.remove(change.key());
            }
        }
        self.revision = self.revision.max(change.revision());
        self.push(change);
    }

    fn push(&mut self, change: Change) {
        if self.ring.len() >= WATCH_RING_EVENTS_MAX {
            if let Some(oldest) = self.ring.pop_front() {
                self.ring_base = self.ring_base.max(oldest.revision());
                self.ring_first += 1;
            }
        }
        self.ring.push_back(Arc::new(change));
    }

    /// Ends every watcher: what they would have to be told is not known any more.
    fn forget_changes(&mut self, revision: i64) {
        self.ring_first = self.next_sequence() + 1;
        self.ring.clear();
        self.ring_base = revision;
    }
}

impl ResourceCache {
    pub fn new(config: StorageConfig) -> Self {
        let state = State::default();
        Self { root: config.root(), config, state: RwLock::new(state), version: watch::Sender::new(0) }
    }

    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sees every change of this resource, and the end of its cache.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn wake(&self) {
        self.version.send_modify(|v| *v = v.wrapping_add(1));
    }

    /// Takes the changes of one batch of the feed.
    pub fn apply(&self, changes: Vec<Change>) {
        let mut state = self.write();
        match &mut state.pending {
            Some(pending) if pending.len() + changes.len() <= WATCH_RING_EVENTS_MAX => pending.extend(changes),
            Some(pending) => {
                pending.clear();
                state.overflowed = true;
            }
            None => changes.into_iter().for_each(|change| state.apply(change)),
        }
        drop(state);
        self.wake();
    }

    /// Asks for a fill: from now on changes are kept until it ends. The old objects stay readable meanwhile, as the
    /// state at `feed`, up to which all changes were passed on. True if the caller has to start a task that does it; else
    /// one is at it and will see this.
    pub fn begin_fill(&self, feed: i64) -> bool {
        let mut state = self.write();
        if state.current() {
            state.revision = state.revision.max(feed);
        }
        state.pending = Some(Vec::new());
        state.overflowed = false;
        state.fill_generation += 1;
        !std::mem::replace(&mut state.filling, true)
    }

    /// Which fill a list that is read from now on is for.
    pub fn fill_generation(&self) -> u64 {
        self.read().fill_generation
    }

    /// Ends a fill with all objects at `revision`. False if it must be done again.
    ///
    /// What happened between the old state and the new one is not known here, so all watchers end. They go on after the
    /// last event that they saw: the store serves what it still has, or says that it is gone, and then clients list.
    pub fn end_fill(&self, generation: u64, objects: Vec<StoredObject>, revision: i64) -> bool {
        let mut state = self.write();
        if state.fill_generation != generation {
            return false;
        }
        if state.overflowed {
            state.pending = Some(Vec::new());
            state.overflowed = false;
            return false;
        }
        let pending = state.pending.take().unwrap_or_default();
        state.forget_changes(revision);
        state.snapshots.clear();
        state.objects = objects.into_iter().map(|o| (o.key().into(), o)).collect();
        state.revision = revision;
        state.fill_revision = revision;
        state.filled = true;
        state.filling = false;
        for change in pending.into_iter().filter(|c| c.revision() > revision) {
            state.apply(change);
        }
        drop(state);
        self.wake();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelstone_machinery::gvk::GroupResource;
    use serde_json::json;

    fn cache() -> ResourceCache {
        let resource = GroupResource { group: String::new(), resource: "pods".into() };
        let cache = ResourceCache::new(StorageConfig::new(resource));
        assert!(cache.begin_fill(0));
        cache
    }

    fn end_fill(cache: &ResourceCache, objects: Vec<StoredObject>, revision: i64) -> bool {
        cache.end_fill(cache.fill_generation(), objects, revision)
    }

    fn object(key: &str, revision: i64) -> StoredObject {
        StoredObject::new(key, revision, json!({"metadata": {"name": key}}))
    }

    fn put(key: &str, revision: i64) -> Change {
        Change::new(revision, Some(object(key, revision)), None)
    }

    fn keys(cache: &ResourceCache) -> Vec<String> {
        cache.read().objects_under("").iter().map(|o| o.key().to_owned()).collect()
    }

    #[test]
    fn changes_during_a_fill_are_applied_after_it() {
        let cache = cache();
        assert!(!cache.read().current());
        cache.apply(vec![put("old", 3), put("new", 12)]);
        assert!(end_fill(&cache, vec![object("a", 5)], 10));
        assert_eq!(keys(&cache), ["a", "new"]);
        let state = cache.read();
        assert!(state.current());
        assert_eq!((state.revision(), state.ring_base()), (12, 10));
        assert_eq!(state.sequence_after(9), None);
        let first = state.sequence_after(10).unwrap();
        assert_eq!(state.changes_from(first, 10).unwrap().len(), 1);
        assert_eq!(state.sequence_after(12), Some(state.next_sequence()));
    }

    #[test]
    fn several_changes_of_one_revision_are_all_applied() {
        let cache = cache();
        assert!(end_fill(&cache, vec![object("a", 5), object("b", 5)], 10));
        cache.apply(vec![Change::new(11, None, Some(object("a", 5))), Change::new(11, None, Some(object("b", 5)))]);
        assert!(keys(&cache).is_empty());
        cache.apply(vec![put("late", 10)]);
        assert!(keys(&cache).is_empty());
    }

    #[test]
    fn a_watcher_that_falls_behind_the_ring_is_told() {
        let cache = cache();
        assert!(end_fill(&cache, Vec::new(), 1));
        let start = cache.read().sequence_after(1).unwrap();
        for revision in 0..=WATCH_RING_EVENTS_MAX as i64 {
            cache.apply(vec![put("a", 2 + revision)]);
        }
        let state = cache.read();
        assert!(state.changes_from(start, 1).is_none());
        assert!(state.changes_from(start + 1, 1).is_some());
        assert_eq!(state.ring_base(), 2);
    }

    #[test]
    fn a_second_fill_ends_the_watchers() {
        let cache = cache();
        assert!(end_fill(&cache, vec![object("a", 5)], 10));
        let next = cache.read().next_sequence();
        cache.begin_fill(12);
        assert!(cache.read().filled() && !cache.read().current());
        cache.apply(vec![put("a", 21)]);
        assert!(cache.read().changes_from(next, 10).is_some_and(|changes| changes.is_empty()), "until it has ended");
        // "a" may have changed many times between 10 and 15.
        assert!(end_fill(&cache, vec![object("a", 15)], 20));
        let state = cache.read();
        assert!(state.changes_from(next, 10).is_none());
        assert_eq!((state.sequence_after(19), state.ring_base()), (None, 20));
        let next = state.sequence_after(20).unwrap();
        assert_eq!(state.changes_from(next, 10).unwrap()[0].revision(), 21);
    }

    #[test]
    fn too_many_changes_during_a_fill_start_it_again() {
        let cache = cache();
        cache.apply((0..=WATCH_RING_EVENTS_MAX as i64).map(|r| put("a", r + 2)).collect());
        assert!(!end_fill(&cache, Vec::new(), 1));
        assert!(end_fill(&cache, Vec::new(), 10_000));
    }

    #[test]
    fn a_list_read_for_an_earlier_fill_does_not_count() {
        let cache = cache();
        let before = cache.fill_generation();
        assert!(!cache.begin_fill(0), "one task is at it already");
        assert!(!cache.end_fill(before, Vec::new(), 5));
        assert!(end_fill(&cache, Vec::new(), 7));
        assert!(cache.begin_fill(0));
    }
}
