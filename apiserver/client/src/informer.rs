use std::time::Duration;

use futures::StreamExt;
use keelstone_env::{
    bug::{self, Bug},
    fault::{self, Point, Sight},
};
use tokio::task::JoinHandle;

use crate::{
    api::Api,
    constants::{LIST_PAGE_ITEMS, RELIST_BACKOFF_MS_MAX, RELIST_BACKOFF_MS_MIN, WATCH_TIMEOUT_S_MIN},
    error::{ClientError, ClientResult},
    object::Object,
    options::{ListOptions, VersionMatch, WatchOptions},
    store::{parse_version, Store},
    watch::WatchEvent,
};

/// What an informer selects, and how it starts.
#[derive(Clone, Debug, Default)]
pub struct InformerOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// If the newest state cannot be had because quorum is lost, start with whatever an API server has in
    /// memory. Only for readers that do no harm with an old state.
    pub stale_start: bool,
}

impl InformerOptions {
    pub fn labels(selector: impl Into<String>) -> Self {
        Self { label_selector: Some(selector.into()), ..Self::default() }
    }

    pub fn fields(selector: impl Into<String>) -> Self {
        Self { field_selector: Some(selector.into()), ..Self::default() }
    }
}

/// Keeps a [`Store`] up to date by list and watch, until it is dropped.
pub struct Informer<T: Object> {
    store: Store<T>,
    task: JoinHandle<()>,
}

impl<T: Object> Informer<T> {
    /// Starts to follow the objects of `api`.
    pub fn spawn(api: Api<T>, options: InformerOptions) -> Self {
        let store = Store::new();
        let env = api.client().env().clone();
        let reflector = Reflector { api, options, store: store.clone() };
        Self { store, task: env.spawn(reflector.run()) }
    }

    pub fn store(&self) -> &Store<T> {
        &self.store
    }

    pub async fn wait_synced(&self) {
        self.store.wait_synced().await;
    }
}

impl<T: Object> Drop for Informer<T> {
    fn drop(&mut self) {
        self.task.abort();
        self.store.close();
    }
}

/// How a watch ended.
enum Ended {
    /// By the server, or a broken connection: watch on from the last version.
    Resume,
    /// The last version is too old to watch from: list again.
    Expired,
}

struct Reflector<T> {
    api: Api<T>,
    options: InformerOptions,
    store: Store<T>,
}

impl<T: Object> Reflector<T> {
    async fn run(self) {
        let mut backoff = Backoff::default();
        let mut list_needed = true;
        // Two expirations in a row without an event between are not worth hurrying for.
        let mut hurry = true;
        loop {
            if list_needed {
                match self.list().await {
                    Ok(()) => list_needed = false,
                    Err(error) => {
                        self.log("list", &error);
                        backoff.pause(&self.api).await;
                        continue;
                    }
                }
            }
            let before = self.store.version();
            let ended = self.watch().await;
            let progress = self.store.version() > before;
            hurry |= progress;
            match ended {
                Ok(Ended::Resume) => backoff = Backoff::default(),
                Ok(Ended::Expired) => {
                    list_needed = true;
                    if std::mem::take(&mut hurry) {
                        continue;
                    }
                }
                Err(error) => {
                    self.log("watch", &error);
                    if progress {
                        backoff = Backoff::default();
                    }
                }
            }
            backoff.pause(&self.api).await;
        }
    }

    fn log(&self, verb: &str, error: &ClientError) {
        tracing::info!(resource = %self.api.gvr().group_resource(), verb, %error, "will be tried again");
    }

    /// Lists everything: the first time the newest state, later any state that is not older than what was seen.
    async fn list(&self) -> ClientResult<()> {
        let options = ListOptions {
            label_selector: self.options.label_selector.clone(),
            field_selector: self.options.field_selector.clone(),
            ..ListOptions::default()
        };
        fault::pause(Point::InformerList).await;
        let seen = self.store.version();
        if seen > 0 {
            fault::sight(Sight::InformerRelisted);
        }
        let list = if bug::planted(Bug::ListRewinds) {
            self.api.list_all(&ListOptions { resource_version: Some("0".into()), ..options }).await?
        } else if seen > 0 {
            let options = ListOptions {
                resource_version: Some(seen.to_string()),
                version_match: Some(VersionMatch::NotOlderThan),
                ..options
            };
            self.api.list_all(&options).await?
        } else {
            let newest = ListOptions { limit: Some(LIST_PAGE_ITEMS), ..options.clone() };
            match self.api.list_all(&newest).await {
                Err(error) if self.options.stale_start && matches!(error.code(), 500 | 503 | 504) => {
                    self.api.list_all(&ListOptions { resource_version: Some("0".into()), ..options }).await?
                }
                list => list?,
            }
        };
        let version = parse_version(&list.resource_version);
        if version == 0 {
            return Err(ClientError::Decode("a list without resourceVersion".into()));
        }
        if !self.store.replace(list.items, version) {
            return Err(ClientError::Decode(format!("a list of version {version} after {seen} had been seen")));
        }
        Ok(())
    }

    async fn watch(&self) -> ClientResult<Ended> {
        let random = self.api.client().env().random();
        let options = WatchOptions {
            label_selector: self.options.label_selector.clone(),
            field_selector: self.options.field_selector.clone(),
            resource_version: Some(self.store.version().to_string()),
            bookmarks: true,
            timeout_s: Some(WATCH_TIMEOUT_S_MIN + random.below(WATCH_TIMEOUT_S_MIN)),
        };
        let mut events = match self.api.watch(&options).await {
            Err(error) if error.is_gone() => return Ok(Ended::Expired),
            events => events?,
        };
        while let Some(event) = events.next().await {
            fault::pause(Point::InformerEvent).await;
            if fault::rare(Point::InformerResume) {
                return Ok(Ended::Resume);
            }
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => self.store.apply(object),
                Ok(WatchEvent::Deleted(object)) => self.store.delete(object),
                Ok(WatchEvent::Bookmark { resource_version, .. }) => {
                    self.store.advance(parse_version(&resource_version));
                }
                Err(error) if error.is_gone() => return Ok(Ended::Expired),
                Err(error) => return Err(error),
            }
        }
        Ok(Ended::Resume)
    }
}

/// Doubling pauses, each with up to as much again at random.
#[derive(Default)]
struct Backoff {
    doublings: u32,
}

impl Backoff {
    async fn pause<T: Object>(&mut self, api: &Api<T>) {
        let pause_ms = (RELIST_BACKOFF_MS_MIN << self.doublings.min(10)).min(RELIST_BACKOFF_MS_MAX);
        self.doublings += 1;
        let jitter_ms = api.client().env().random().below(pause_ms);
        tokio::time::sleep(Duration::from_millis(pause_ms + jitter_ms)).await;
    }
}
