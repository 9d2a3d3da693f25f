use std::sync::Arc;

use async_trait::async_trait;
use keelstone_env::fault::{self, Point};
use keelstone_machinery::{
    gvk::GroupResource,
    status::{ApiResult, ApiStatus},
};
use serde_json::Value;
use tokio::time::timeout;

use super::{feed::Shared, resource::ResourceCache, watch};
use crate::{
    constants::{FRESHNESS_WAIT, OPERATION_TIMEOUT},
    continue_token::ContinueToken,
    error::{too_large_resource_version, StoreError},
    etcd::EtcdStorage,
    Freshness, ListOptions, ListPage, Outcome, Preconditions, Storage, StoredObject, Update, WatchEvents, WatchOptions,
    WatchStart,
};

/// Storage that answers lists and watches from a watch cache, and asks the store where the cache cannot.
pub struct CachedStorage {
    pub(super) shared: Arc<Shared>,
    pub(super) cache: Arc<ResourceCache>,
    pub(super) direct: EtcdStorage,
}

impl CachedStorage {
    pub(super) fn new(shared: Arc<Shared>, cache: Arc<ResourceCache>, direct: EtcdStorage) -> Self {
        Self { shared, cache, direct }
    }

    /// Waits until the cache can answer a read of this freshness. `false`: the store has to be asked, because
    /// the cache is not filled or cannot keep up.
    ///
    /// # Errors
    /// 503 or 504 if the store's revision is needed and has no quorum; 504 for a revision in the future.
    pub(super) async fn fresh(&self, freshness: Freshness) -> ApiResult<bool> {
        if fault::rare(Point::CacheFresh) && freshness != Freshness::Any {
            return Ok(false);
        }
        match freshness {
            Freshness::Any => Ok(self.cache.read().filled()),
            Freshness::Exact(_) => Ok(false),
            Freshness::Latest => {
                if !self.cache.read().current() {
                    return Ok(false);
                }
                let revision = self.shared.access.revision(self.shared.access.deadline()).await?;
                Ok(self.reached(revision).await)
            }
            Freshness::NotOlderThan(revision) => {
                if !self.cache.read().filled() {
                    return Ok(false);
                }
                if self.known_revision() >= revision || self.reached(revision).await {
                    return Ok(true);
                }
                let feed = *self.shared.revision.borrow();
                if feed >= revision {
                    // The revision exists; only this cache is being filled again.
                    return Ok(false);
                }
                Err(too_large_resource_version(revision, feed))
            }
        }
    }

    /// Waits until the cache has every change up to `revision`; `false` if that takes too long.
    async fn reached(&self, revision: i64) -> bool {
        let mut known = self.shared.revision.subscribe();
        let wait = known.wait_for(|known| *known >= revision);
        let reached = matches!(timeout(FRESHNESS_WAIT, wait).await, Ok(Ok(_)));
        reached && self.cache.read().current()
    }

    /// Everything up to this revision is in the cache, or may be if the cache is being filled again.
    fn known_revision(&self) -> i64 {
        let feed = *self.shared.revision.borrow();
        let state = self.cache.read();
        if state.current() {
            feed.max(state.revision())
        } else {
            state.revision()
        }
    }

    /// All objects under `prefix` and the revision of which they are the state. With `keep`, the snapshot is
    /// kept for the pages that follow.
    pub(super) fn snapshot(&self, prefix: &str, keep: bool) -> (Vec<StoredObject>, i64) {
        // The feed's revision is read first: the objects read after it are at least as new.
        let feed = *self.shared.revision.borrow();
        let at = |current: bool, revision: i64| if current { feed.max(revision) } else { revision };
        if keep {
            let mut state = self.cache.write();
            let revision = at(state.current(), state.revision());
            state.keep_snapshot(revision, self.shared.access.env().now());
            (state.objects_under(prefix), revision)
        } else {
            let state = self.cache.read();
            let revision = at(state.current(), state.revision());
            (state.objects_under(prefix), revision)
        }
    }

    fn first_page(&self, prefix: &str, options: &ListOptions) -> ListPage {
        if let Some(key) = options.predicate.key() {
            let feed = *self.shared.revision.borrow();
            let state = self.cache.read();
            let revision = if state.current() { feed.max(state.revision()) } else { state.revision() };
            let object = state.object(key).filter(|o| o.key().starts_with(prefix)).cloned();
            let objects = object.into_iter().filter(|o| options.predicate.matches(o.value())).collect();
            return ListPage { objects, revision, ..ListPage::default() };
        }
        let (objects, revision) = self.snapshot(prefix, false);
        let page = page_of(objects, revision, prefix, options);
        if page.continue_token.is_empty() {
            return page;
        }
        // More pages follow: read again, and keep what they will be cut from.
        let (objects, revision) = self.snapshot(prefix, true);
        page_of(objects, revision, prefix, options)
    }

    /// A page after the first, if the snapshot is still here.
    fn later_page(&self, prefix: &str, options: &ListOptions) -> ApiResult<Option<ListPage>> {
        let token = ContinueToken::decode(&options.continue_token)?;
        if token.revision <= 0 {
            return Ok(None);
        }
        let Some(snapshot) = self.cache.read().snapshot(token.revision) else { return Ok(None) };
        let start = format!("{prefix}{}", token.start);
        let first = snapshot.partition_point(|o| o.key() < start.as_str());
        let rest = snapshot[first..].iter().take_while(|o| o.key().starts_with(prefix)).cloned().collect();
        let page = page_of(rest, token.revision, prefix, options);
        if page.continue_token.is_empty() {
            self.cache.write().drop_snapshot(token.revision);
        }
        Ok(Some(page))
    }
}

/// Cuts a page out of objects in key order.
fn page_of(mut objects: Vec<StoredObject>, revision: i64, prefix: &str, options: &ListOptions) -> ListPage {
    if !options.predicate.is_everything() {
        objects.retain(|o| options.predicate.matches(o.value()));
    }
    let mut page = ListPage { objects, revision, ..ListPage::default() };
    if options.limit == 0 || page.objects.len() <= options.limit {
        return page;
    }
    let left = page.objects.len() - options.limit;
    page.objects.truncate(options.limit);
    if let Some(last) = page.objects.last() {
        let relative = last.key().strip_prefix(prefix).unwrap_or(last.key());
        page.continue_token = ContinueToken::after(revision, relative).encode();
    }
    page.remaining = options.predicate.is_everything().then(|| i64::try_from(left).unwrap_or(i64::MAX));
    page
}

#[async_trait]
impl Storage for CachedStorage {
    fn group_resource(&self) -> &GroupResource {
        self.direct.group_resource()
    }

    async fn create(&self, key: &str, object: Value, ttl_s: Option<i64>, dry_run: bool) -> ApiResult<StoredObject> {
        self.direct.create(key, object, ttl_s, dry_run).await
    }

    async fn get(&self, key: &str, freshness: Freshness) -> ApiResult<StoredObject> {
        // The newest state of one key is one read of the store, as cheap as its revision.
        if freshness == Freshness::Latest || !self.bounded(self.fresh(freshness)).await? {
            let known = self.cache.read().object(key).cloned();
            return self.direct.get_known(key, freshness, known).await;
        }
        let name = key.rsplit('/').next().unwrap_or(key);
        let object = self.cache.read().object(key).cloned();
        object.ok_or_else(|| ApiStatus::not_found(self.group_resource(), name))
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> ApiResult<ListPage> {
        self.bounded(self.list_page(prefix, options)).await
    }

    async fn watch(&self, prefix: &str, options: WatchOptions) -> ApiResult<WatchEvents> {
        self.bounded(self.open_watch(prefix, options)).await
    }

    async fn update(
        &self,
        key: &str,
        preconditions: &Preconditions,
        update: &mut dyn Update,
        dry_run: bool,
    ) -> ApiResult<Outcome> {
        let origin = self.cache.read().object(key).cloned();
        self.direct.update_from(key, origin, preconditions, update, dry_run).await
    }

    async fn revision(&self) -> ApiResult<i64> {
        self.direct.revision().await
    }
}

impl CachedStorage {
    /// Several calls of the store together take no longer than one may.
    async fn bounded<T>(&self, work: impl std::future::Future<Output = ApiResult<T>> + Send) -> ApiResult<T> {
        match timeout(OPERATION_TIMEOUT, work).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable("no answer in time".into()).to_status()),
        }
    }

    async fn list_page(&self, prefix: &str, options: ListOptions) -> ApiResult<ListPage> {
        if !options.continue_token.is_empty() {
            return match self.later_page(prefix, &options)? {
                Some(page) => Ok(page),
                None => self.direct.list(prefix, options).await,
            };
        }
        if self.fresh(options.freshness).await? {
            return Ok(self.first_page(prefix, &options));
        }
        self.direct.list(prefix, options).await
    }

    async fn open_watch(&self, prefix: &str, options: WatchOptions) -> ApiResult<WatchEvents> {
        let freshness = match options.start {
            WatchStart::After(revision) => {
                let usable = {
                    let state = self.cache.read();
                    state.filled() && revision >= state.ring_base()
                };
                // The store keeps more history than the ring does.
                return if usable {
                    watch::after(self, prefix, options, revision)
                } else {
                    self.direct.watch(prefix, options).await
                };
            }
            WatchStart::StateLatest | WatchStart::StateThenBookmark(None) | WatchStart::Now => Freshness::Latest,
            WatchStart::StateAny | WatchStart::StateThenBookmark(Some(0)) => Freshness::Any,
            WatchStart::StateThenBookmark(Some(revision)) => Freshness::NotOlderThan(revision),
        };
        if self.fresh(freshness).await? {
            return Ok(watch::with_state(self, prefix, options));
        }
        self.direct.watch(prefix, options).await
    }
}
