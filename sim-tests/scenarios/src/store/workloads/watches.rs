//! Watchers of the registers. (5) ordered, unique, atomic, reliable, resumable, progress, values before.
//!
//! - roaming: leaves, and resumes at other members;
//! - staying: at one member, as long as that serves it, so that it sees snapshots installed under it;
//! - historian: begins somewhere in the past, again and again, and asks at once how far it is complete.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use keelstone_checkers::{
    watch::{self, Observed},
    watch_prev_kv::{self, WithPrev},
    Event, Violation,
};
use keelstone_env::Random;
use keelstone_etcd_api::pb;
use keelstone_store_client::{EtcdKv, GrpcKv, WatchStream};
use keelstone_world::SeededRandom;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, sleep_until, Instant},
};

use super::{Clients, Workload, LOG_END, LOG_FIRST};
use crate::{
    log::{self, watch_request},
    simulation::Shared,
    Plant,
};

const ROAMING: u32 = 3;
const HISTORIANS: u32 = 2;
/// A roaming watcher leaves its watch by itself, and resumes it elsewhere, after up to this.
const WATCH_MS_MAX: u64 = 6_000;
/// A historian has seen enough after up to this.
const HISTORY_MS_MAX: u64 = 700;
const HISTORY_PAUSE_MS_MAX: u64 = 1_500;
/// How often a watcher asks how far it is complete.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(300);
const HISTORIAN_PROGRESS_INTERVAL: Duration = Duration::from_millis(20);
const RETRY_PAUSE: Duration = Duration::from_millis(150);

/// What all watchers saw; a watcher that lost its place to compaction begins a new entry.
#[derive(Clone, Default)]
struct Watched(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    observed: Vec<Observed>,
    with_prev: Vec<WithPrev>,
    /// The highest revision that somebody was told was compacted.
    compacted: i64,
}

impl Watched {
    fn begin(&self, watcher: String, start_revision: i64) -> usize {
        let mut seen = self.0.lock().expect("no panic while locked");
        seen.observed.push(Observed { watcher, start_revision, prefix: LOG_FIRST.into(), ..Observed::default() });
        seen.observed.len() - 1
    }

    fn with<T>(&self, index: usize, work: impl FnOnce(&mut Observed) -> T) -> T {
        work(&mut self.0.lock().expect("no panic while locked").observed[index])
    }

    /// From which revision on there may be history, and up to which there is.
    fn history(&self) -> (i64, i64) {
        let seen = self.0.lock().expect("no panic while locked");
        (seen.compacted.max(1), seen.observed.iter().map(|o| o.complete_to).max().unwrap_or(0))
    }

    fn compacted(&self, revision: i64) {
        let mut seen = self.0.lock().expect("no panic while locked");
        seen.compacted = seen.compacted.max(revision);
    }
}

#[derive(Default)]
pub struct Watches {
    watched: Watched,
}

/// A watcher's means.
struct Watcher {
    name: String,
    kv: GrpcKv,
    watched: Watched,
    shared: Shared,
    random: SeededRandom,
    prev_kv: bool,
    skips: bool,
}

impl Workload for Watches {
    fn name(&self) -> &'static str {
        "watches"
    }

    /// The watchers go on after the load: they are not waited for.
    fn start(&self, clients: &Clients) -> Vec<JoinHandle<()>> {
        let skips = clients.plan.plant == Some(Plant::SkippedWatch);
        let watcher = |name: String, kv| Watcher {
            random: clients.random(&format!("watcher {name}")),
            kv,
            watched: self.watched.clone(),
            shared: clients.shared.clone(),
            prev_kv: false,
            skips: false,
            name,
        };
        for id in 0..ROAMING {
            let roaming = watcher(format!("{id}"), clients.kv(u64::from(id)));
            // The last one asks for the values before.
            let roaming = Watcher { prev_kv: id + 1 == ROAMING, skips: skips && id == 0, ..roaming };
            tokio::spawn(roaming.resume_for_ever(Some(WATCH_MS_MAX)));
        }
        for member in &clients.names {
            tokio::spawn(watcher(format!("of {member}"), clients.kv_of(member)).resume_for_ever(None));
        }
        for id in 0..HISTORIANS {
            tokio::spawn(watcher(format!("historian {id}"), clients.kv(u64::from(id) + 1)).read_history());
        }
        Vec::new()
    }

    fn check(&self) -> Result<(), Violation> {
        Ok(())
    }

    fn check_log(&self, log: &[Event]) -> Result<(), Violation> {
        let seen = self.watched.0.lock().expect("no panic while locked");
        seen.observed.iter().try_for_each(|observed| watch::check(observed, log))?;
        watch_prev_kv::check(&seen.with_prev, log)
    }
}

impl Watcher {
    /// Watches for ever, from the first revision on, and resumes whenever its watch ends, which it does itself after up
    /// to so many milliseconds.
    async fn resume_for_ever(self, watch_ms_max: Option<u64>) {
        let mut index = self.watched.begin(self.name.clone(), 1);
        loop {
            let lasting = watch_ms_max.map(|max| Duration::from_millis(self.random.below(max)));
            if let Some(compacted) = self.watch(index, lasting, PROGRESS_INTERVAL).await {
                index = self.watched.begin(format!("{} after compaction", self.name), compacted);
            }
            self.shared.saw("watch_resumed");
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn read_history(self) {
        loop {
            sleep(Duration::from_millis(self.random.below(HISTORY_PAUSE_MS_MAX))).await;
            let (first, last) = self.watched.history();
            let start = first + self.random.below((last - first).max(1) as u64) as i64;
            let index = self.watched.begin(format!("{} from {start}", self.name), start);
            let lasting = Duration::from_millis(self.random.below(HISTORY_MS_MAX));
            self.watch(index, Some(lasting), HISTORIAN_PROGRESS_INTERVAL).await;
        }
    }

    /// One watch, until it ends; returns the revision to go on from if its place was compacted away.
    async fn watch(&self, index: usize, lasting: Option<Duration>, progress_interval: Duration) -> Option<i64> {
        let from = self.watched.with(index, |o| o.start_revision.max(o.complete_to + 1));
        let (progress, requests) = mpsc::channel(1);
        let request = pb::WatchCreateRequest { prev_kv: self.prev_kv, ..watch_request(LOG_FIRST, LOG_END, from) };
        let stream = match self.kv.watch_with_progress(request, requests).await {
            Ok(stream) if self.skips => skipping(stream, self.random.below(20)),
            Ok(stream) => stream,
            Err(error) => {
                self.shared.hash(&format!("watcher {}: {error}", self.name));
                return None;
            }
        };
        let compacted = self.follow(stream, progress, index, lasting, progress_interval).await;
        if let Some(revision) = compacted {
            let wanted = self.watched.with(index, |o| o.start_revision.max(o.complete_to + 1));
            if let Err(violation) = watch::check_end(&self.name, wanted, revision) {
                self.shared.violated(violation);
            }
            self.watched.compacted(revision);
            self.shared.saw("watch_compacted");
        }
        compacted
    }

    async fn follow(
        &self,
        mut stream: WatchStream,
        progress: mpsc::Sender<()>,
        index: usize,
        lasting: Option<Duration>,
        progress_interval: Duration,
    ) -> Option<i64> {
        let end = lasting.map(|lasting| Instant::now() + lasting);
        let mut ask_at = Instant::now() + progress_interval;
        loop {
            let answer = tokio::select! {
                biased;
                () = sleep_until(end.unwrap_or(ask_at)), if end.is_some() => return None,
                () = sleep_until(ask_at) => {
                    ask_at += progress_interval;
                    // A queue that is full has such a request already.
                    let _ = progress.try_send(());
                    continue;
                }
                answer = stream.next() => answer,
            };
            let response = answer?.ok()?;
            self.shared.hash(&format!("watch {index}: {response:?}"));
            if response.compact_revision > 0 {
                return Some(response.compact_revision);
            }
            if response.canceled {
                return None;
            }
            if self.prev_kv {
                let with_prev = response.events.iter().cloned().map(with_prev);
                self.watched.0.lock().expect("no panic while locked").with_prev.extend(with_prev);
            }
            self.watched.with(index, |observed| take(observed, response));
        }
    }
}

fn with_prev(event: keelstone_etcd_api::mvccpb::Event) -> WithPrev {
    let prev = event.prev_kv.as_ref().map(|kv| super::calls::text(&kv.value));
    WithPrev { event: log::event(event), prev }
}

fn take(observed: &mut Observed, response: pb::WatchResponse) {
    let told = response.header.map_or(0, |header| header.revision);
    let events: Vec<Event> = response.events.into_iter().map(log::event).collect();
    match events.last() {
        Some(last) => {
            observed.complete_to = observed.complete_to.max(last.revision);
            observed.answers.push(events);
        }
        None if response.created => {}
        // Progress: everything up to the revision in the header was sent.
        None => {
            observed.progress.push((observed.answers.len(), told));
            observed.complete_to = observed.complete_to.max(told);
        }
    }
}

/// The planted defect: leaves out one answer with events, after so many of them.
fn skipping(stream: WatchStream, after: u64) -> WatchStream {
    let mut left = after;
    stream
        .filter(move |answer| {
            let has_events = answer.as_ref().is_ok_and(|response| !response.events.is_empty());
            let skip = has_events && left == 0;
            left = if has_events { left.wrapping_sub(1) } else { left };
            std::future::ready(!skip)
        })
        .boxed()
}
