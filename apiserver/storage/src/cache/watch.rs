use std::{sync::Arc, time::Duration};

use keelstone_env::Env;
use keelstone_machinery::status::ApiResult;
use tokio::{sync::watch::Receiver, time::sleep_until};

use super::{feed::Shared, resource::ResourceCache, storage::CachedStorage};
use crate::{
    change::Change,
    constants::{BOOKMARK_BEFORE_END, BOOKMARK_INTERVAL, WATCH_BATCH_EVENTS_MAX},
    error::too_old_resource_version,
    Predicate, StoredObject, WatchEvent, WatchEvents, WatchOptions, WatchStart,
};

/// A century: the timeout of a watch without an end.
const FOR_EVER: Duration = Duration::from_secs(3_155_760_000);

/// One watcher's place in the ring of changes.
struct Cursor {
    shared: Arc<Shared>,
    cache: Arc<ResourceCache>,
    prefix: String,
    predicate: Predicate,
    /// The sequence number of the next change to look at.
    sequence: u64,
    /// Changes up to this revision are not passed on: a watch may begin in the future.
    after: i64,
    changed: Receiver<u64>,
}

/// What a cursor found.
enum Step {
    Events(Vec<WatchEvent>),
    /// Everything up to this revision was passed on.
    CaughtUp(i64),
    /// The watcher was too slow.
    Lost,
}

impl Cursor {
    fn new(storage: &CachedStorage, prefix: &str, predicate: Predicate, sequence: u64, after: i64) -> Self {
        Self {
            shared: storage.shared.clone(),
            cache: storage.cache.clone(),
            prefix: prefix.to_owned(),
            predicate,
            sequence,
            after,
            changed: storage.cache.subscribe(),
        }
    }

    fn step(&mut self) -> Step {
        self.changed.borrow_and_update();
        // The feed's revision is read first: the changes read after it are all that there are up to it.
        let feed = *self.shared.revision.borrow();
        let changes: Vec<Arc<Change>> = {
            let state = self.cache.read();
            match state.changes_from(self.sequence, WATCH_BATCH_EVENTS_MAX) {
                Some(changes) if changes.is_empty() => {
                    let known = if state.current() { feed.max(state.revision()) } else { state.revision() };
                    return Step::CaughtUp(known.max(self.after));
                }
                Some(changes) => changes,
                None => return Step::Lost,
            }
        };
        self.sequence += changes.len() as u64;
        let visible = changes.iter().filter(|c| c.revision() > self.after);
        Step::Events(visible.filter_map(|c| c.seen_by(&self.prefix, &self.predicate)).collect())
    }
}

/// A watch of the changes after `revision`.
pub fn after(storage: &CachedStorage, prefix: &str, options: WatchOptions, revision: i64) -> ApiResult<WatchEvents> {
    let sequence = {
        let state = storage.cache.read();
        // The ring may have moved on since the caller looked.
        state.sequence_after(revision).ok_or_else(|| too_old_resource_version(revision, state.ring_base()))?
    };
    let cursor = Cursor::new(storage, prefix, options.predicate.clone(), sequence, revision);
    Ok(events(cursor, Vec::new(), None, &options, storage.shared.access.env()))
}

/// A watch that begins with the state of the cache, or with the moment at which it was opened.
pub fn with_state(storage: &CachedStorage, prefix: &str, options: WatchOptions) -> WatchEvents {
    let feed = *storage.shared.revision.borrow();
    let (mut objects, revision, sequence) = {
        let state = storage.cache.read();
        let revision = if state.current() { feed.max(state.revision()) } else { state.revision() };
        let objects = match options.start {
            WatchStart::Now => Vec::new(),
            _ => state.objects_under(prefix),
        };
        (objects, revision, state.next_sequence())
    };
    objects
        .retain(|o| options.predicate.key().is_none_or(|key| key == o.key()) && options.predicate.matches(o.value()));
    let mark = matches!(options.start, WatchStart::StateThenBookmark(_)).then_some(revision);
    let cursor = Cursor::new(storage, prefix, options.predicate.clone(), sequence, 0);
    events(cursor, objects, mark, &options, storage.shared.access.env())
}

fn events(
    mut cursor: Cursor,
    initial: Vec<StoredObject>,
    mark: Option<i64>,
    options: &WatchOptions,
    env: &Env,
) -> WatchEvents {
    let env = env.clone();
    let end = env.now() + options.timeout.unwrap_or(FOR_EVER);
    let bookmarks = options.bookmarks;
    // The last one comes shortly before the end, so that the next watch has little to catch up with.
    let last_bookmark = options.timeout.map_or(end, |_| end - BOOKMARK_BEFORE_END.min(end - env.now()));
    let mut bookmark_at = env.now() + if bookmarks { BOOKMARK_INTERVAL } else { FOR_EVER };
    if bookmarks && last_bookmark > env.now() {
        bookmark_at = bookmark_at.min(last_bookmark);
    }
    Box::pin(async_stream::stream! {
        for object in initial {
            yield WatchEvent::Added(object);
        }
        if let Some(revision) = mark.filter(|_| bookmarks) {
            yield WatchEvent::Bookmark { revision, initial_events_end: true };
        }
        let mut bookmark_due = false;
        loop {
            match cursor.step() {
                Step::Events(events) => {
                    for event in events {
                        yield event;
                    }
                    if env.now() >= end {
                        return;
                    }
                    // A watcher that is far behind must not keep others from running.
                    tokio::task::yield_now().await;
                }
                Step::Lost => {
                    tracing::debug!(resource = %cursor.cache.config.resource, "a watcher was too slow and is ended");
                    return;
                }
                Step::CaughtUp(revision) => {
                    if std::mem::take(&mut bookmark_due) {
                        let now = env.now();
                        bookmark_at = now + BOOKMARK_INTERVAL;
                        if now < last_bookmark {
                            bookmark_at = bookmark_at.min(last_bookmark);
                        }
                        yield WatchEvent::Bookmark { revision, initial_events_end: false };
                    }
                    tokio::select! {
                        biased;
                        () = sleep_until(end) => return,
                        changed = cursor.changed.changed() => {
                            if changed.is_err() {
                                return;
                            }
                        }
                        () = sleep_until(bookmark_at) => bookmark_due = true,
                    }
                }
            }
        }
    })
}
