use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
    time::Duration,
};

use keelstone_env::bug::{self, Bug};
use tokio::{
    sync::{watch, Notify},
    time::timeout,
};

use crate::{
    constants::SUBSCRIPTION_EVENTS_MAX,
    error::{ClientError, ClientResult},
    object::{object_key, Object},
};

type IndexFn<T> = dyn Fn(&T) -> Vec<String> + Send + Sync;

/// A secondary index of a [`Store`]: the values under which an object is to be found.
pub struct Index<T> {
    name: String,
    function: Arc<IndexFn<T>>,
}

impl<T: Object> Index<T> {
    pub fn new(name: &str, function: impl Fn(&T) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { name: name.to_owned(), function: Arc::new(function) }
    }

    /// By the uid of each owner; named `owner`.
    pub fn owner() -> Self {
        Self::new("owner", |object| object.owner_uids().into_iter().map(str::to_owned).collect())
    }

    /// By the uid of the controller; named `controller`.
    pub fn controller() -> Self {
        Self::new("controller", |object| object.controller_uid().map(str::to_owned).into_iter().collect())
    }

    /// By namespace; named `namespace`.
    pub fn namespace() -> Self {
        Self::new("namespace", |object| vec![object.namespace().to_owned()])
    }

    /// By the value of a label; named `label:<key>`.
    pub fn label(key: &str) -> Self {
        let owned = key.to_owned();
        Self::new(&format!("label:{key}"), move |object| object.label(&owned).map(str::to_owned).into_iter().collect())
    }
}

/// A change of a store.
#[derive(Clone, Debug)]
pub enum StoreEvent<T> {
    Added(Arc<T>),
    Updated {
        old: Arc<T>,
        new: Arc<T>,
    },
    Deleted(Arc<T>),
    /// Events were left out (or this is the beginning): look at the whole store.
    Resync,
}

struct IndexState<T> {
    function: Arc<IndexFn<T>>,
    /// Value to keys.
    entries: BTreeMap<String, BTreeSet<String>>,
}

struct Objects<T> {
    by_key: BTreeMap<String, Arc<T>>,
    indexes: BTreeMap<String, IndexState<T>>,
    queues: Vec<Weak<EventQueue<T>>>,
}

struct EventQueue<T> {
    events: Mutex<VecDeque<StoreEvent<T>>>,
    notify: Notify,
    events_max: usize,
}

/// What the store has seen of the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The version of the last event, bookmark or list; 0 before the first.
    version: u64,
    synced: bool,
    closed: bool,
}

struct Inner<T> {
    objects: RwLock<Objects<T>>,
    seen: watch::Sender<Seen>,
}

/// A local copy of a resource's objects by `namespace/name`, in that order, kept up to date by an
/// [`crate::Informer`]. Cheap to clone; clones are the same store.
pub struct Store<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T: Object> Default for Store<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A resourceVersion as a number; 0 if it is not one. Versions of one cluster can be compared.
pub fn parse_version(resource_version: &str) -> u64 {
    resource_version.parse().unwrap_or(0)
}

impl<T: Object> Store<T> {
    /// An empty store that no informer feeds (yet).
    pub fn new() -> Self {
        let objects = Objects { by_key: BTreeMap::new(), indexes: BTreeMap::new(), queues: Vec::new() };
        Self { inner: Arc::new(Inner { objects: RwLock::new(objects), seen: watch::Sender::default() }) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<T>> {
        self.inner.objects.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<T>> {
        self.inner.objects.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The object with this key (`namespace/name`, or `name`).
    pub fn get(&self, key: &str) -> Option<Arc<T>> {
        self.read().by_key.get(key).cloned()
    }

    pub fn get_in(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.get(&object_key(namespace, name))
    }

    /// All objects in the order of their keys.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.read().by_key.values().cloned().collect()
    }

    /// The objects of one namespace in the order of their names.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<T>> {
        let from = format!("{namespace}/");
        let objects = self.read();
        let range = objects.by_key.range(from.clone()..).take_while(|(key, _)| key.starts_with(&from));
        range.map(|(_, object)| object.clone()).collect()
    }

    pub fn keys(&self) -> Vec<String> {
        self.read().by_key.keys().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.read().by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an index over present and future objects; an index of that name stays as it is.
    pub fn add_index(&self, index: Index<T>) {
        let mut objects = self.write();
        if objects.indexes.contains_key(&index.name) {
            return;
        }
        let mut entries: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (key, object) in &objects.by_key {
            for value in (index.function)(object) {
                entries.entry(value).or_default().insert(key.clone());
            }
        }
        objects.indexes.insert(index.name, IndexState { function: index.function, entries });
    }

    /// The objects with `value` in an index, in the order of their keys; none if there is no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<T>> {
        let objects = self.read();
        let keys = objects.indexes.get(index).and_then(|state| state.entries.get(value));
        keys.into_iter().flatten().filter_map(|key| objects.by_key.get(key).cloned()).collect()
    }

    /// The newest version that this store reflects; 0 before the first list.
    pub fn version(&self) -> u64 {
        self.inner.seen.borrow().version
    }

    /// The first list has been taken over.
    pub fn has_synced(&self) -> bool {
        self.inner.seen.borrow().synced
    }

    /// Waits until the first list has been taken over (or the store was closed).
    pub async fn wait_synced(&self) {
        let mut seen = self.inner.seen.subscribe();
        // The sender lives as long as the store, so this cannot fail.
        let _ = seen.wait_for(|seen| seen.synced || seen.closed).await;
    }

    /// The store reflects this version or a newer one.
    pub fn not_older_than(&self, resource_version: &str) -> bool {
        self.version() >= parse_version(resource_version)
    }

    /// Waits until the store reflects a version, e.g. the one returned by an own write (whose object this
    /// store's selection must include).
    ///
    /// # Errors
    /// `Transport` after `longest`, or when the store is closed.
    pub async fn wait_for(&self, resource_version: &str, longest: Duration) -> ClientResult<()> {
        let version = parse_version(resource_version);
        let mut seen = self.inner.seen.subscribe();
        let wait =
            async { seen.wait_for(|seen| seen.version >= version || seen.closed).await.map(|seen| seen.version) };
        let reached = timeout(longest, wait).await;
        if matches!(reached, Ok(Ok(reached)) if reached >= version) {
            return Ok(());
        }
        Err(ClientError::Transport(format!("the cache has not reached version {version} in time")))
    }

    /// The changes from now on, after one [`StoreEvent::Resync`]. A subscriber that falls behind by more than
    /// [`SUBSCRIPTION_EVENTS_MAX`] loses them and gets a Resync instead.
    pub fn subscribe(&self) -> Subscription<T> {
        self.subscribe_bounded(SUBSCRIPTION_EVENTS_MAX)
    }

    /// [`Store::subscribe`] with another bound, at least 1.
    pub fn subscribe_bounded(&self, events_max: usize) -> Subscription<T> {
        let queue = Arc::new(EventQueue {
            events: Mutex::new(VecDeque::from([StoreEvent::Resync])),
            notify: Notify::new(),
            events_max: events_max.max(1),
        });
        self.write().queues.push(Arc::downgrade(&queue));
        Subscription { queue, store: self.clone() }
    }

    /// Takes over a complete list at `version`; what is not in it is gone. Refused (false) if the store has
    /// already seen a newer version.
    pub fn replace(&self, items: Vec<T>, version: u64) -> bool {
        if self.version() > version && !bug::planted(Bug::ListRewinds) {
            return false;
        }
        let mut objects = self.write();
        let mut gone: BTreeSet<String> = objects.by_key.keys().cloned().collect();
        for item in items {
            gone.remove(&item.key());
            objects.put(Arc::new(item));
        }
        gone.iter().for_each(|key| objects.remove(key, None));
        drop(objects);
        self.inner.seen.send_modify(|seen| {
            seen.version = version;
            seen.synced = true;
        });
        true
    }

    /// Takes over a changed or added object; ignored if the store has a newer one.
    pub fn apply(&self, object: T) {
        let version = parse_version(object.resource_version());
        self.write().put(Arc::new(object));
        self.advance(version);
    }

    /// Takes over a deletion. The object's version is that of the deletion.
    pub fn delete(&self, object: T) {
        let version = parse_version(object.resource_version());
        self.write().remove(&object.key(), Some(object));
        self.advance(version);
    }

    /// Everything up to `version` has been taken over.
    pub fn advance(&self, version: u64) {
        self.inner.seen.send_if_modified(|seen| {
            let newer = version > seen.version;
            seen.version = seen.version.max(version);
            newer
        });
    }

    pub(crate) fn close(&self) {
        self.inner.seen.send_modify(|seen| seen.closed = true);
    }
}

impl<T: Object> Objects<T> {
    fn put(&mut self, new: Arc<T>) {
        let key = new.key();
        let old = self.by_key.get(&key).cloned();
        if let Some(old) = &old {
            if parse_version(old.resource_version()) > parse_version(new.resource_version()) {
                tracing::debug!(%key, "an older version of an object was ignored");
                return;
            }
            self.unindex(&key, old);
        }
        for state in self.indexes.values_mut() {
            for value in (state.function)(&new) {
                state.entries.entry(value).or_default().insert(key.clone());
            }
        }
        self.by_key.insert(key, new.clone());
        match old {
            None => self.publish(&StoreEvent::Added(new)),
            Some(old) if old.resource_version() == new.resource_version() && !new.resource_version().is_empty() => {}
            Some(old) => self.publish(&StoreEvent::Updated { old, new }),
        }
    }

    /// Removes the object; `last` is its last state, if known better than by the store.
    fn remove(&mut self, key: &str, last: Option<T>) {
        let Some(old) = self.by_key.remove(key) else { return };
        self.unindex(key, &old);
        self.publish(&StoreEvent::Deleted(last.map_or(old, Arc::new)));
    }

    fn unindex(&mut self, key: &str, old: &T) {
        for state in self.indexes.values_mut() {
            for value in (state.function)(old) {
                if let Some(keys) = state.entries.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        state.entries.remove(&value);
                    }
                }
            }
        }
    }

    fn publish(&mut self, event: &StoreEvent<T>) {
        self.queues.retain(|queue| queue.upgrade().map(|queue| queue.push(event.clone())).is_some());
    }
}

impl<T> EventQueue<T> {
    fn push(&self, event: StoreEvent<T>) {
        let mut events = self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if events.len() >= self.events_max {
            events.clear();
            events.push_back(StoreEvent::Resync);
        } else {
            events.push_back(event);
        }
        self.notify.notify_one();
    }
}

/// The changes of a [`Store`], for one reader.
pub struct Subscription<T> {
    queue: Arc<EventQueue<T>>,
    store: Store<T>,
}

impl<T: Object> Subscription<T> {
    /// The next change. Cancel safe.
    pub async fn next(&mut self) -> StoreEvent<T> {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            self.queue.notify.notified().await;
        }
    }

    /// The next change, if there is one already.
    pub fn try_next(&mut self) -> Option<StoreEvent<T>> {
        self.queue.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front()
    }

    pub fn store(&self) -> &Store<T> {
        &self.store
    }
}
