//! Watchers of the registers that leave, and resume at other members. (5) ordered, unique, atomic, reliable,
//! resumable, progress, values before.

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
use tokio::{sync::mpsc, task::JoinHandle};

use super::{Clients, Workload, LOG_END, LOG_FIRST};
use crate::{
    log::{self, watch_request},
    simulation::Shared,
    Plant,
};

const WATCHERS: u32 = 3;
/// A watcher leaves its watch by itself, and resumes it elsewhere, after up to this.
const WATCH_MS_MAX: u64 = 6_000;
/// How often a watcher asks how far it is complete.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(700);
const RETRY_PAUSE: Duration = Duration::from_millis(150);

/// What all watchers saw; a watcher that lost its place to compaction begins a new entry.
#[derive(Clone, Default)]
struct Watched(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    observed: Vec<Observed>,
    with_prev: Vec<WithPrev>,
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
}

#[derive(Default)]
pub struct Watches {
    watched: Watched,
}

impl Workload for Watches {
    fn name(&self) -> &'static str {
        "watches"
    }

    /// The watchers go on after the load: they are not waited for.
    fn start(&self, clients: &Clients) -> Vec<JoinHandle<()>> {
        let skips = clients.plan.plant == Some(Plant::SkippedWatch);
        for id in 0..WATCHERS {
            let random = clients.random(&format!("watcher {id}"));
            let (kv, watched, shared) = (clients.kv(u64::from(id)), self.watched.clone(), clients.shared.clone());
            tokio::spawn(run(id, kv, watched, shared, random, skips && id == 0));
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

/// Watches for ever, from the first revision on, and resumes whenever its watch ends.
async fn run(id: u32, kv: GrpcKv, watched: Watched, shared: Shared, random: SeededRandom, skips: bool) {
    let mut index = watched.begin(format!("{id}"), 1);
    loop {
        let from = watched.with(index, |o| o.start_revision.max(o.complete_to + 1));
        let (progress, requests) = mpsc::channel(1);
        // The last watcher asks for the values before.
        let request = pb::WatchCreateRequest { prev_kv: id + 1 == WATCHERS, ..watch_request(LOG_FIRST, LOG_END, from) };
        let prev_kv = request.prev_kv;
        match kv.watch_with_progress(request, requests).await {
            Ok(stream) => {
                let stream = if skips { skipping(stream, random.below(20)) } else { stream };
                let lasting = Duration::from_millis(random.below(WATCH_MS_MAX));
                if let Some(compacted) = follow(stream, progress, lasting, &watched, (index, prev_kv), &shared).await {
                    shared.saw("watch_compacted");
                    index = watched.begin(format!("{id} after compaction"), compacted);
                }
                shared.saw("watch_resumed");
            }
            Err(error) => shared.hash(&format!("watcher {id}: {error}")),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Follows one watch until it ends; returns the revision to go on from if its place was compacted away.
async fn follow(
    mut stream: WatchStream,
    progress: mpsc::Sender<()>,
    lasting: Duration,
    watched: &Watched,
    (index, prev_kv): (usize, bool),
    shared: &Shared,
) -> Option<i64> {
    let end = tokio::time::Instant::now() + lasting;
    let mut ask_at = tokio::time::Instant::now() + PROGRESS_INTERVAL;
    loop {
        let answer = tokio::select! {
            biased;
            () = tokio::time::sleep_until(end) => return None,
            () = tokio::time::sleep_until(ask_at) => {
                ask_at += PROGRESS_INTERVAL;
                // A queue that is full has such a request already.
                let _ = progress.try_send(());
                continue;
            }
            answer = stream.next() => answer,
        };
        let response = answer?.ok()?;
        shared.hash(&format!("watch {index}: {response:?}"));
        if response.compact_revision > 0 {
            return Some(response.compact_revision);
        }
        if response.canceled {
            return None;
        }
        if prev_kv {
            let with_prev = response.events.iter().cloned().map(with_prev);
            watched.0.lock().expect("no panic while locked").with_prev.extend(with_prev);
        }
        watched.with(index, |observed| take(observed, response));
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
        // Progress: everything up to the revision in the header was sent.
        None if !response.created => observed.complete_to = observed.complete_to.max(told),
        None => {}
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
