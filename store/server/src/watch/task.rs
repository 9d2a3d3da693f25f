use std::{
    sync::{atomic::Ordering::Relaxed, Arc},
    time::Duration,
};

use keelstone_env::fault::{self, Point};
use keelstone_etcd_api::{pb, ApiError};
use keelstone_mvcc::{WatchBatch, Watcher};
use tokio::{
    sync::{mpsc, Notify},
    time::{interval_at, Instant, Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    access::{reason, WatchAccess},
    fragment::split,
    tasks::Counted,
};
use crate::{constants::WATCH_FRAGMENT_BYTES, member::Member};

/// What a watch tells its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Everything up to `revision` is in the stream's queue.
    Progress { id: i64, revision: i64 },
    /// The watch is over; its last response is in the queue.
    Ended { id: i64 },
}

/// How a session steers a watch.
#[derive(Clone, Default)]
pub(super) struct Control {
    /// Asks for one [`Report::Progress`].
    pub progress: Arc<Notify>,
    pub cancel: CancellationToken,
    /// Says that users or roles have changed.
    pub auth_changed: Arc<Notify>,
}

/// One watch of a stream.
pub(super) struct WatchTask {
    pub member: Arc<Member>,
    pub id: i64,
    pub watcher: Watcher,
    pub access: WatchAccess,
    pub fragment: bool,
    pub control: Control,
    pub out: mpsc::Sender<pb::WatchResponse>,
    pub reports: mpsc::Sender<Report>,
}

impl WatchTask {
    /// Passes on what happens until the watch is cancelled or ends. With `progress_interval`, an idle watch
    /// says after each interval how far it is.
    pub async fn run(mut self, progress_interval: Option<Duration>) {
        let cancelled = self.control.cancel.clone();
        let _counted = Counted::new(&self.member, |metrics| &metrics.watchers);
        // Wherever it waits, be it for a client that does not read, a cancelled watch is gone at once.
        let ended = tokio::select! {
            biased;
            () = cancelled.cancelled() => false,
            () = self.pass_on(progress_interval) => true,
        };
        if ended {
            // A session that is gone does not care.
            let _ = self.reports.send(Report::Ended { id: self.id }).await;
        }
    }

    async fn pass_on(&mut self, progress_interval: Option<Duration>) {
        let mut ticks = progress_interval.map(ticks);
        let control = self.control.clone();
        let (mut session_asked, mut tick_asked, mut busy) = (false, false, false);
        loop {
            let batch = tokio::select! {
                biased;
                () = control.progress.notified() => {
                    session_asked = true;
                    self.watcher.request_progress();
                    continue;
                }
                () = control.auth_changed.notified() => {
                    if !self.still_allowed().await {
                        return;
                    }
                    continue;
                }
                () = next_tick(&mut ticks) => {
                    if !std::mem::take(&mut busy) {
                        tick_asked = true;
                        self.watcher.request_progress();
                    }
                    continue;
                }
                batch = self.watcher.next() => batch,
            };
            match batch {
                Ok(Some(WatchBatch::Events { revision, events })) => {
                    busy = true;
                    fault::pause(Point::WatchBatch).await;
                    if !self.still_allowed().await || !self.send_events(revision, events).await {
                        return;
                    }
                }
                Ok(Some(WatchBatch::Progress { revision })) => {
                    fault::pause(Point::WatchProgress).await;
                    if std::mem::take(&mut tick_asked) && !self.send(self.response(revision)).await {
                        return;
                    }
                    if std::mem::take(&mut session_asked) {
                        let report = Report::Progress { id: self.id, revision };
                        if self.reports.send(report).await.is_err() {
                            return;
                        }
                    }
                }
                Ok(Some(WatchBatch::Compacted { compact_revision })) => {
                    let mut last = self.response(self.member.mvcc.revision());
                    (last.canceled, last.compact_revision) = (true, compact_revision);
                    last.cancel_reason = compacted_reason();
                    self.send(last).await;
                    return;
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(watch = self.id, %error, "a watch cannot go on");
                    let mut last = self.response(self.member.mvcc.revision());
                    (last.canceled, last.cancel_reason) = (true, error.to_string());
                    self.send(last).await;
                    return;
                }
            }
        }
    }

    /// Ends the watch of a client that may no longer read what it watches.
    async fn still_allowed(&mut self) -> bool {
        let Err(error) = self.access.check() else { return true };
        let mut last = self.response(self.member.mvcc.revision());
        (last.canceled, last.cancel_reason) = (true, reason(error));
        self.send(last).await;
        false
    }

    async fn send_events(&mut self, revision: i64, events: Vec<keelstone_etcd_api::mvccpb::Event>) -> bool {
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        let whole = pb::WatchResponse { events, ..self.response(revision) };
        let parts = if self.fragment { split(whole, WATCH_FRAGMENT_BYTES) } else { vec![whole] };
        for part in parts {
            if !self.send(part).await {
                return false;
            }
        }
        self.member.metrics.watch_events_sent.fetch_add(count, Relaxed);
        true
    }

    fn response(&self, revision: i64) -> pb::WatchResponse {
        pb::WatchResponse { header: Some(self.member.header(revision)), watch_id: self.id, ..Default::default() }
    }

    async fn send(&self, response: pb::WatchResponse) -> bool {
        self.out.send(response).await.is_ok()
    }
}

/// Watch responses carry the state machine's text, without the prefix of a failed call.
pub(super) fn compacted_reason() -> String {
    ApiError::Compacted.text().trim_start_matches(keelstone_etcd_api::PREFIX).to_owned()
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn next_tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}
