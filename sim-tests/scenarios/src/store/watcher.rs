use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use keelstone_checkers::{watch::Observed, Event};
use keelstone_env::Random;
use keelstone_etcd_api::pb;
use keelstone_store_client::{EtcdKv, GrpcKv, WatchStream};
use keelstone_world::SeededRandom;
use tokio::sync::mpsc;

use super::load::{KEY_END, KEY_FIRST};
use crate::{
    log::{self, watch_request},
    simulation::Shared,
};

/// A watcher leaves its watch by itself, and resumes it elsewhere, after up to this.
const WATCH_MS_MAX: u64 = 6_000;
/// How often a watcher asks how far it is complete.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(700);
const RETRY_PAUSE: Duration = Duration::from_millis(150);

/// What all watchers saw; a watcher that lost its place to compaction begins a new entry.
#[derive(Clone, Default)]
pub struct Watched(Arc<Mutex<Vec<Observed>>>);

impl Watched {
    pub fn all(&self) -> Vec<Observed> {
        self.0.lock().expect("no panic while locked").clone()
    }

    fn begin(&self, watcher: String, start_revision: i64) -> usize {
        let mut all = self.0.lock().expect("no panic while locked");
        all.push(Observed { watcher, start_revision, prefix: KEY_FIRST.into(), ..Observed::default() });
        all.len() - 1
    }

    fn with<T>(&self, index: usize, work: impl FnOnce(&mut Observed) -> T) -> T {
        work(&mut self.0.lock().expect("no panic while locked")[index])
    }
}

/// Watches for ever, from the first revision on, and resumes whenever its watch ends.
pub async fn run(id: u32, kv: GrpcKv, watched: Watched, shared: Shared, random: SeededRandom, skips: bool) {
    let mut index = watched.begin(format!("{id}"), 1);
    loop {
        let from = watched.with(index, |o| o.start_revision.max(o.complete_to + 1));
        let (progress, requests) = mpsc::channel(1);
        match kv.watch_with_progress(watch_request(KEY_FIRST, KEY_END, from), requests).await {
            Ok(stream) => {
                let stream = if skips { skipping(stream, random.below(20)) } else { stream };
                let lasting = Duration::from_millis(random.below(WATCH_MS_MAX));
                if let Some(compacted) = follow(stream, progress, lasting, &watched, index, &shared).await {
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
    index: usize,
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
        watched.with(index, |observed| take(observed, response));
    }
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
