use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicUsize, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
};

use bytes::Bytes;
use keelstone_env::bug::{self, Bug};
use tokio::sync::Notify;

use super::{
    event::{Filter, RevisionEvents},
    window::Window,
};
use crate::RangeBounds;

/// How far a watch goes back with [`Bug::WatchGoesBack`].
const REPEATED_REVISIONS: i64 = 3;

/// Knows all watchers, and wakes those whom a revision concerns.
pub struct Hub {
    inner: Mutex<Inner>,
    prev_kv_watchers: AtomicUsize,
}

struct Inner {
    /// The newest revision that watchers may see.
    revision: i64,
    window: Window,
    slots: BTreeMap<u64, Slot>,
    /// Watchers of one key, by key.
    by_key: BTreeMap<Bytes, Vec<u64>>,
    /// Watchers of ranges.
    of_ranges: Vec<u64>,
    next_id: u64,
}

/// One watcher, as the hub sees it.
struct Slot {
    filter: Arc<Filter>,
    /// Revisions before this do not concern it.
    from: i64,
    /// The first revision that it may have to read; `None` if there is none up to the hub's revision.
    pending: Option<i64>,
    notify: Arc<Notify>,
}

/// What a watcher has to do next.
pub enum Work {
    /// Nothing: it has everything up to `revision`.
    Idle { revision: i64 },
    /// Look at these revisions; they reach to `upto`.
    Window { revisions: Vec<Arc<RevisionEvents>>, upto: i64 },
    /// Read `from ..= upto` from the store.
    Store { from: i64, upto: i64 },
}

impl Hub {
    pub fn new(revision: i64, window_events_max: usize) -> Self {
        let inner = Inner {
            revision,
            window: Window::new(window_events_max),
            slots: BTreeMap::new(),
            by_key: BTreeMap::new(),
            of_ranges: Vec::new(),
            next_id: 0,
        };
        Self { inner: Mutex::new(inner), prev_kv_watchers: AtomicUsize::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any watcher wants the values before the events.
    pub fn wants_prev_kv(&self) -> bool {
        self.prev_kv_watchers.load(Ordering::Relaxed) > 0
    }

    /// Adds a watcher from `start` on (0 or less = after now); returns its id and what wakes it.
    pub fn add(&self, filter: Arc<Filter>, start: i64) -> (u64, Arc<Notify>) {
        if filter.prev_kv() {
            self.prev_kv_watchers.fetch_add(1, Ordering::Relaxed);
        }
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        let from = if start > 0 { start } else { inner.revision + 1 };
        let pending = (from <= inner.revision).then_some(from);
        match filter.bounds() {
            RangeBounds::Key(key) => inner.by_key.entry(key.clone()).or_default().push(id),
            _ => inner.of_ranges.push(id),
        }
        let notify = Arc::new(Notify::new());
        inner.slots.insert(id, Slot { filter, from, pending, notify: Arc::clone(&notify) });
        (id, notify)
    }

    pub fn remove(&self, id: u64) {
        let mut inner = self.lock();
        let Some(slot) = inner.slots.remove(&id) else { return };
        match slot.filter.bounds() {
            RangeBounds::Key(key) => {
                if let Some(ids) = inner.by_key.get_mut(key) {
                    ids.retain(|other| *other != id);
                    if ids.is_empty() {
                        inner.by_key.remove(key);
                    }
                }
            }
            _ => inner.of_ranges.retain(|other| *other != id),
        }
        drop(inner);
        if slot.filter.prev_kv() {
            self.prev_kv_watchers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Shows new revisions to the watchers. `revision` is the newest.
    pub fn publish(&self, events: Vec<RevisionEvents>, revision: i64) {
        let mut inner = self.lock();
        for events in events {
            inner.mark(&events);
            inner.window.push(Arc::new(events));
        }
        inner.revision = revision;
    }

    /// The state was replaced by one at `revision`: watchers read what they miss from the store.
    pub fn reset(&self, revision: i64) {
        let mut inner = self.lock();
        let back = bug::planted(Bug::WatchGoesBack);
        let unseen = inner.revision + 1 - if back { REPEATED_REVISIONS } else { 0 };
        inner.window.clear();
        inner.revision = revision;
        for slot in inner.slots.values_mut() {
            // etcd 15271 did so also with watches that were to begin later.
            let from = if back { unseen } else { slot.from.max(unseen) };
            if slot.pending.is_none() && from <= revision {
                slot.pending = Some(from);
            }
            slot.notify.notify_one();
        }
    }

    pub fn work(&self, id: u64, events_max: usize) -> Work {
        let inner = self.lock();
        let upto = inner.revision;
        let Some(from) = inner.slots.get(&id).and_then(|slot| slot.pending) else {
            return Work::Idle { revision: upto };
        };
        match inner.window.from(from, events_max) {
            Some(revisions) => {
                let upto = revisions.last().map_or(upto, |last| last.revision);
                Work::Window { revisions, upto }
            }
            None => Work::Store { from, upto },
        }
    }

    /// A watcher has looked at everything up to `upto`.
    pub fn settle(&self, id: u64, upto: i64) {
        let mut inner = self.lock();
        let newest = inner.revision;
        if let Some(slot) = inner.slots.get_mut(&id) {
            slot.pending = (upto < newest).then_some(upto + 1);
        }
    }

    /// The revision up to which a watcher has looked at everything.
    pub fn progress(&self, id: u64) -> i64 {
        let inner = self.lock();
        inner.slots.get(&id).and_then(|slot| slot.pending).map_or(inner.revision, |pending| pending - 1)
    }
}

impl Inner {
    fn mark(&mut self, events: &RevisionEvents) {
        let Self { slots, by_key, of_ranges, .. } = self;
        for change in &events.changes {
            let of_key = by_key.get(&change.kv.key).map_or(&[][..], Vec::as_slice);
            for id in of_key.iter().chain(of_ranges.iter()) {
                let Some(slot) = slots.get_mut(id) else { continue };
                let concerned = slot.pending.is_none() && slot.from <= events.revision;
                if concerned && slot.filter.passes(change.kind, &change.kv.key) {
                    slot.pending = Some(events.revision);
                    slot.notify.notify_one();
                }
            }
        }
    }
}
