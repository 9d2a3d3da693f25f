use std::sync::Arc;

use keelstone_env::{
    bug::{self, Bug},
    fault::{self, Point, Sight},
};
use keelstone_etcd_api::mvccpb;
use tokio::sync::Notify;

use super::{
    catch_up::{self, CaughtUp},
    event::{Filter, RevisionEvents},
    hub::Work,
    WatchBatch, WatchSpec,
};
use crate::{shared::Shared, MvccError};

/// One watch. Dropping it cancels it.
pub struct Watcher {
    shared: Arc<Shared>,
    filter: Arc<Filter>,
    id: u64,
    notify: Arc<Notify>,
    /// The compacted revision, if the watch began before it: then it ends at once.
    refused: Option<i64>,
    progress_requested: bool,
    ended: bool,
}

impl Watcher {
    pub(crate) fn new(shared: Arc<Shared>, spec: &WatchSpec) -> Self {
        let compacted = shared.view().compacted;
        let start = spec.start_revision;
        // As in etcd, a negative start is one that was compacted, whether or not anything was.
        let refused = (start < 0 || (start > 0 && start < compacted)).then_some(compacted.max(1));
        let filter = Arc::new(Filter::new(spec));
        let (id, notify) = shared.hub.add(Arc::clone(&filter), start);
        Self { shared, filter, id, notify, refused, progress_requested: false, ended: false }
    }

    /// The next batch; waits while there is none. Cancel safe: what was not returned comes again.
    /// `Ok(None)` once the watch has ended as compacted.
    pub async fn next(&mut self) -> Result<Option<WatchBatch>, MvccError> {
        if let Some(compact_revision) = self.refused.take() {
            self.ended = true;
            return Ok(Some(WatchBatch::Compacted { compact_revision }));
        }
        let events_max =
            if fault::rare(Point::WatchSlow) { 1 } else { self.shared.options.watch_batch_events_max.max(1) };
        if bug::planted(Bug::ProgressBeforeEvents) && std::mem::take(&mut self.progress_requested) {
            return Ok(Some(WatchBatch::Progress { revision: self.shared.view().revision }));
        }
        while !self.ended {
            let read = match self.shared.hub.work(self.id, events_max) {
                Work::Idle { revision } => {
                    if std::mem::take(&mut self.progress_requested) {
                        return Ok(Some(WatchBatch::Progress { revision }));
                    }
                    self.notify.notified().await;
                    continue;
                }
                Work::Window { revisions, upto } if fault::rare(Point::WatchWindow) => {
                    let from = revisions.first().map_or(upto, |first| first.revision);
                    self.read_store(from, upto, events_max).await?
                }
                Work::Window { revisions, upto } => match self.read_window(&revisions, upto)? {
                    Some(read) => read,
                    None => {
                        let from = revisions.first().map_or(upto, |first| first.revision);
                        self.read_store(from, upto, events_max).await?
                    }
                },
                Work::Store { from, upto } => self.read_store(from, upto, events_max).await?,
            };
            match read {
                CaughtUp::Compacted { compact_revision } => {
                    fault::sight(Sight::WatcherCompacted);
                    self.ended = true;
                    return Ok(Some(WatchBatch::Compacted { compact_revision }));
                }
                CaughtUp::Events { upto, events } => {
                    self.shared.hub.settle(self.id, upto);
                    if !events.is_empty() {
                        return Ok(Some(WatchBatch::Events { revision: upto, events }));
                    }
                }
            }
        }
        Ok(None)
    }

    /// `None` if a value before an event is not at hand: the store's answer decides then.
    fn read_window(&self, revisions: &[Arc<RevisionEvents>], upto: i64) -> Result<Option<CaughtUp>, MvccError> {
        let view = self.shared.view();
        let mut events: Vec<mvccpb::Event> = Vec::new();
        for change in revisions.iter().flat_map(|revision| &revision.changes) {
            if !self.filter.passes(change.kind, &change.kv.key) {
                continue;
            }
            match self.filter.event(change, view.index())? {
                Some(event) => events.push(event),
                None => return Ok(None),
            }
        }
        Ok(Some(CaughtUp::Events { upto, events }))
    }

    async fn read_store(&self, from: i64, upto: i64, events_max: usize) -> Result<CaughtUp, MvccError> {
        fault::pause(Point::WatchCatchUp).await;
        fault::sight(Sight::WatcherSlow);
        match self.shared.options.env.clone() {
            Some(env) => {
                let (shared, filter) = (Arc::clone(&self.shared), Arc::clone(&self.filter));
                env.offload(move || catch_up::read(&shared, &filter, from, upto, events_max)).await
            }
            None => catch_up::read(&self.shared, &self.filter, from, upto, events_max),
        }
    }

    /// The revision up to which every event was handed out by [`Watcher::next`]. Never ahead of the events.
    pub fn progress(&self) -> i64 {
        self.shared.hub.progress(self.id)
    }

    /// Makes [`Watcher::next`] answer with [`WatchBatch::Progress`] as soon as nothing older is left.
    pub fn request_progress(&mut self) {
        self.progress_requested = true;
        self.notify.notify_one();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.hub.remove(self.id);
    }
}
