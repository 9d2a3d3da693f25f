use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use keelstone_env::fault::{self, Point, Sight};
use keelstone_env::Env;
use keelstone_etcd_api::{mvccpb, pb};
use keelstone_machinery::gvk::GroupResource;
use keelstone_store_client::{EtcdKv, WatchStream};
use tokio::{sync::watch, task::JoinHandle};

use super::{fill::fill, resource::ResourceCache, storage::CachedStorage};
use crate::{
    access::{revision_of, Deadline, StoreAccess},
    change::Change,
    constants::{FEED_CHECK_INTERVAL, FEED_CHECK_WAIT, FEED_RETRY_PAUSE_MAX, FEED_RETRY_PAUSE_MIN, ROOT},
    etcd::EtcdStorage,
    StorageConfig,
};

/// All watch caches and the one watch of the store that feeds them.
pub struct Cacher {
    shared: Arc<Shared>,
    feed: JoinHandle<()>,
}

/// What the feeding task and the storages share.
pub(crate) struct Shared {
    pub access: Arc<StoreAccess>,
    /// By root: `/registry/core/pods/`.
    resources: Mutex<BTreeMap<String, Arc<ResourceCache>>>,
    /// Everything up to this revision has been passed on to all caches. Never goes back.
    pub revision: watch::Sender<i64>,
    /// The revision after which the feed sees everything; `None` while it is not open.
    open: watch::Sender<Option<i64>>,
}

/// Why a feed ended.
enum FeedEnd {
    /// Go on after the last revision.
    Broken,
    /// Revisions that the feed still needed were compacted.
    Compacted,
}

impl Cacher {
    /// Starts the feed. Caches are filled as storages are made.
    pub fn start(env: Env, kv: Arc<dyn EtcdKv>) -> Arc<Self> {
        let shared = Arc::new(Shared {
            access: StoreAccess::new(env.clone(), kv),
            resources: Mutex::default(),
            revision: watch::Sender::new(0),
            open: watch::Sender::new(None),
        });
        let feed = env.spawn(run(shared.clone()));
        Arc::new(Self { shared, feed })
    }

    pub fn access(&self) -> &Arc<StoreAccess> {
        &self.shared.access
    }

    /// Storage of a resource without the cache.
    pub fn direct(&self, config: StorageConfig) -> EtcdStorage {
        EtcdStorage::new(self.shared.access.clone(), config)
    }

    /// Storage of a resource; begins to fill its cache. The versions of one resource share a cache.
    pub fn storage(&self, config: StorageConfig) -> Arc<CachedStorage> {
        let known = self.shared.resources().get(&config.root()).cloned();
        let cache = known.unwrap_or_else(|| {
            let cache = Arc::new(ResourceCache::new(config.clone()));
            self.shared.resources().insert(cache.root.clone(), cache.clone());
            self.shared.refill(&cache);
            cache
        });
        Arc::new(CachedStorage::new(self.shared.clone(), cache, self.direct(config)))
    }

    /// Forgets a resource that is not served any more.
    pub fn remove(&self, resource: &GroupResource) {
        let root = StorageConfig::new(resource.clone()).root();
        self.shared.resources().remove(&root);
    }

    /// The resources whose caches are not filled yet.
    pub fn unfilled(&self) -> Vec<GroupResource> {
        let resources = self.shared.resources();
        resources.values().filter(|c| !c.read().filled()).map(|c| c.config.resource.clone()).collect()
    }

    /// Everything up to this revision is in the caches.
    pub fn revision(&self) -> i64 {
        *self.shared.revision.borrow()
    }

    /// Stops the feed. Caches stay readable at resourceVersion 0.
    pub fn shutdown(&self) {
        self.feed.abort();
    }
}

impl Drop for Cacher {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    fn resources(&self) -> MutexGuard<'_, BTreeMap<String, Arc<ResourceCache>>> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a batch of events on, then says that everything up to its last revision is known.
    fn distribute(&self, events: &[mvccpb::Event]) {
        let mut changes: BTreeMap<&str, Vec<Change>> = BTreeMap::new();
        let mut revision = 0;
        let resources = self.resources();
        for event in events {
            let Some(kv) = &event.kv else { continue };
            revision = revision.max(kv.mod_revision);
            let Some((root, cache)) = root_of(&kv.key).and_then(|root| resources.get_key_value(root)) else {
                continue;
            };
            match cache.config.decode_event(root, event) {
                Ok(Some(change)) => changes.entry(root).or_default().push(change),
                // The deletion of a key whose last state was compacted: a fill finds it out.
                Ok(None) => self.refill(cache),
                Err(_) => self.refill(cache),
            }
        }
        for (root, changes) in changes {
            if let Some(cache) = resources.get(root) {
                cache.apply(changes);
            }
        }
        drop(resources);
        self.advance(revision);
    }

    fn refill(&self, cache: &Arc<ResourceCache>) {
        if cache.begin_fill(*self.revision.borrow()) {
            self.access.env().spawn(fill(self.access.clone(), cache.clone(), self.open.subscribe()));
        }
    }

    fn advance(&self, revision: i64) {
        self.revision.send_if_modified(|known| {
            let newer = revision > *known;
            *known = (*known).max(revision);
            newer
        });
    }
}

/// `/registry/core/pods/` of `/registry/core/pods/default/a`; `None` for a key of another kind.
fn root_of(key: &[u8]) -> Option<&str> {
    let key = std::str::from_utf8(key).ok()?;
    let rest = key.strip_prefix(ROOT)?;
    let mut slashes = rest.match_indices('/').map(|(at, _)| at);
    let second = slashes.nth(1)?;
    key.get(..ROOT.len() + second + 1)
}

/// Keeps the feed open for ever.
async fn run(shared: Arc<Shared>) {
    let mut pause = FEED_RETRY_PAUSE_MIN;
    let mut resume: Option<i64> = None;
    loop {
        match open(&shared, resume).await {
            Some((stream, from)) => {
                pause = FEED_RETRY_PAUSE_MIN;
                match follow(&shared, stream).await {
                    FeedEnd::Broken => resume = Some(from.max(*shared.revision.borrow())),
                    FeedEnd::Compacted => {
                        tracing::info!(after = *shared.revision.borrow(), "the feed fell behind compaction");
                        fault::sight(Sight::CacheRestarted);
                        shared.open.send_replace(None);
                        shared.resources().values().for_each(|cache| shared.refill(cache));
                        resume = None;
                    }
                }
            }
            None => pause = (pause * 2).min(FEED_RETRY_PAUSE_MAX),
        }
        tokio::time::sleep(jittered(shared.access.env(), pause)).await;
    }
}

/// Opens the feed after `resume`; without one, at the store's newest revision, which lets the caches be filled.
async fn open(shared: &Arc<Shared>, resume: Option<i64>) -> Option<(WatchStream, i64)> {
    let access = &shared.access;
    let from = match resume {
        Some(revision) => revision,
        None => access.revision(access.deadline()).await.ok()?,
    };
    let request = pb::WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: from + 1,
        prev_kv: true,
        progress_notify: true,
        ..Default::default()
    };
    let stream = access.watch(access.deadline(), request).await.ok()?;
    if resume.is_none() {
        shared.advance(from);
        shared.open.send_replace(Some(from));
    }
    Some((stream, from))
}

/// Reads the feed until it ends.
async fn follow(shared: &Arc<Shared>, mut stream: WatchStream) -> FeedEnd {
    if fault::rare(Point::CacheRestart) {
        return FeedEnd::Compacted;
    }
    let mut check_wait = FEED_CHECK_INTERVAL;
    let mut behind: Option<i64> = None;
    loop {
        tokio::select! {
            biased;
            response = stream.next() => {
                let Some(Ok(response)) = response else { return FeedEnd::Broken };
                if response.compact_revision > 0 {
                    return FeedEnd::Compacted;
                }
                if response.canceled {
                    tracing::warn!(reason = %response.cancel_reason, "the store canceled the feeding watch");
                    return FeedEnd::Broken;
                }
                fault::pause(Point::CacheFeed).await;
                if !response.events.is_empty() {
                    shared.distribute(&response.events);
                } else if !response.created {
                    shared.advance(revision_of(&response.header));
                }
                behind = None;
                check_wait = FEED_CHECK_INTERVAL;
            }
            () = tokio::time::sleep(check_wait) => {
                if behind.is_some_and(|revision| revision > *shared.revision.borrow()) {
                    tracing::info!("the feeding watch is silent although the store has moved on: opening it again");
                    return FeedEnd::Broken;
                }
                let deadline = Deadline::after(shared.access.env(), FEED_CHECK_INTERVAL);
                // Without a quorum nothing can be said of the feed, and nothing is missed either.
                behind = shared.access.revision(deadline).await.ok();
                let is_behind = behind.is_some_and(|revision| revision > *shared.revision.borrow());
                check_wait = if is_behind { FEED_CHECK_WAIT } else { FEED_CHECK_INTERVAL };
            }
        }
    }
}

fn jittered(env: &Env, pause: Duration) -> Duration {
    let half_ms = u64::try_from(pause.as_millis() / 2).unwrap_or(0);
    pause / 2 + Duration::from_millis(env.random().below(half_ms.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_belong_to_their_resource() {
        assert_eq!(root_of(b"/registry/core/pods/default/a"), Some("/registry/core/pods/"));
        assert_eq!(root_of(b"/registry/core/nodes/a"), Some("/registry/core/nodes/"));
        assert_eq!(root_of(b"/registry/core"), None);
        assert_eq!(root_of(b"compact_rev_key"), None);
        assert_eq!(root_of(b"/registry/\xff/x/y"), None);
    }
}
