use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use keelstone_etcd_api::pb;
use keelstone_machinery::status::{ApiResult, ApiStatus};
use keelstone_store_client::WatchStream;
use tokio::time::{sleep_until, Instant};

use crate::{
    access::{prefix_end, revision_of},
    change::Change,
    constants::BOOKMARK_INTERVAL,
    error::too_old_resource_version,
    EtcdStorage, Freshness, ListOptions, Predicate, StorageConfig, StoredObject, WatchEvent, WatchEvents, WatchOptions,
    WatchStart,
};

/// How a watch begins: the state to show first, and the revision after which changes follow.
pub(crate) struct Beginning {
    pub initial: Vec<StoredObject>,
    pub revision: i64,
    /// Whether the initial state ends in its bookmark.
    pub marked: bool,
}

/// Opens a watch of the store itself.
pub(crate) async fn watch(storage: &EtcdStorage, prefix: &str, options: WatchOptions) -> ApiResult<WatchEvents> {
    let beginning = begin(storage, prefix, &options).await?;
    let full = format!("{}{prefix}", storage.root);
    let request = pb::WatchCreateRequest {
        range_end: prefix_end(&full),
        key: Bytes::from(full),
        start_revision: beginning.revision.saturating_add(1),
        prev_kv: true,
        progress_notify: options.bookmarks,
        ..Default::default()
    };
    let stream = storage.access.watch(storage.access.deadline(), request).await?;
    let source = Source {
        config: storage.config.clone(),
        root: storage.root.clone(),
        prefix: prefix.to_owned(),
        predicate: options.predicate.clone(),
        stream,
        delivered: beginning.revision,
    };
    let now = storage.access.env().now();
    let env = storage.access.env().clone();
    Ok(events(source, beginning, options, now, Arc::new(move || env.now())))
}

async fn begin(storage: &EtcdStorage, prefix: &str, options: &WatchOptions) -> ApiResult<Beginning> {
    let (freshness, marked) = match options.start {
        WatchStart::After(revision) => return Ok(Beginning { initial: Vec::new(), revision, marked: false }),
        WatchStart::Now => {
            let revision = storage.access.revision(storage.access.deadline()).await?;
            return Ok(Beginning { initial: Vec::new(), revision, marked: false });
        }
        WatchStart::StateLatest => (Freshness::Latest, false),
        WatchStart::StateAny => (Freshness::Any, false),
        WatchStart::StateThenBookmark(None) => (Freshness::Latest, true),
        WatchStart::StateThenBookmark(Some(0)) => (Freshness::Any, true),
        WatchStart::StateThenBookmark(Some(revision)) => (Freshness::NotOlderThan(revision), true),
    };
    let list = ListOptions { freshness, predicate: options.predicate.clone(), ..ListOptions::default() };
    let page = storage.list_at(prefix, &list).await?;
    Ok(Beginning { initial: page.objects, revision: page.revision, marked })
}

/// The store's watch, decoded.
struct Source {
    config: StorageConfig,
    root: String,
    prefix: String,
    predicate: Predicate,
    stream: WatchStream,
    /// Everything up to this revision was passed on.
    delivered: i64,
}

impl Source {
    /// The next events; `None` at the end of the store's stream.
    async fn next(&mut self) -> Option<Vec<WatchEvent>> {
        let response = match self.stream.next().await? {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(%error, resource = %self.config.resource, "watch of the store ended");
                return None;
            }
        };
        if response.canceled || response.compact_revision > 0 {
            let error = if response.compact_revision > 0 {
                too_old_resource_version(self.delivered, response.compact_revision)
            } else {
                ApiStatus::internal(format!("the store canceled the watch: {}", response.cancel_reason))
            };
            return Some(vec![WatchEvent::Error(error)]);
        }
        if response.events.is_empty() && !response.created {
            self.delivered = self.delivered.max(revision_of(&response.header));
        }
        let mut events = Vec::with_capacity(response.events.len());
        for event in &response.events {
            let change: Option<Change> = match self.config.decode_event(&self.root, event) {
                Ok(change) => change,
                Err(error) => {
                    events.push(WatchEvent::Error(error));
                    return Some(events);
                }
            };
            if let Some(change) = change {
                self.delivered = self.delivered.max(change.revision());
                events.extend(change.seen_by(&self.prefix, &self.predicate));
            }
        }
        Some(events)
    }
}

fn events(
    mut source: Source,
    beginning: Beginning,
    options: WatchOptions,
    start: Instant,
    now: Arc<dyn Fn() -> Instant + Send + Sync>,
) -> WatchEvents {
    // A century, for a watch without an end.
    let far = start + std::time::Duration::from_secs(3_155_760_000);
    let end = options.timeout.map_or(far, |t| start + t);
    let mut bookmark_at = if options.bookmarks { start + BOOKMARK_INTERVAL } else { far };
    Box::pin(async_stream::stream! {
        for object in beginning.initial {
            yield WatchEvent::Added(object);
        }
        if beginning.marked && options.bookmarks {
            yield WatchEvent::Bookmark { revision: beginning.revision, initial_events_end: true };
        }
        loop {
            let next = tokio::select! {
                biased;
                () = sleep_until(end) => return,
                next = source.next() => next,
                () = sleep_until(bookmark_at) => {
                    bookmark_at = now() + BOOKMARK_INTERVAL;
                    yield WatchEvent::Bookmark { revision: source.delivered, initial_events_end: false };
                    continue;
                }
            };
            let Some(events) = next else { return };
            for event in events {
                let last = matches!(event, WatchEvent::Error(_));
                yield event;
                if last {
                    return;
                }
            }
        }
    })
}
