//! Watchers, which resume at another member whenever their watch ends.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt;
use keelstone_checkers::{
    watch::{self, Observed},
    Event, Violation,
};
use keelstone_env::Random;
use keelstone_mvcc::{Mvcc, WatchBatch};
use keelstone_world::{EventHash, SeededRandom};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout, timeout_at, Instant},
};

use crate::{
    cluster::Client,
    log::{event, everything_from},
    member::Life,
};

const WATCH_MS_MAX: u64 = 1_500;
const RETRY_PAUSE: Duration = Duration::from_millis(20);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(70);

/// What watchers saw, also those whose host is gone.
#[derive(Clone, Default)]
pub struct Watched(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    observed: Vec<Observed>,
    /// A watch that was ended without reason.
    violation: Option<Violation>,
    compacted: u64,
}

impl Watched {
    /// Watches for ever.
    pub async fn follow(self, name: String, client: Client, random: SeededRandom, hash: EventHash) {
        let mut index = self.begin(&name, 1);
        loop {
            let (all, hash) = (self.clone(), hash.clone());
            let lasting = Duration::from_millis(random.below(WATCH_MS_MAX));
            let (done, ended) = oneshot::channel();
            let job = move |life: Life| {
                async move {
                    // It may end at any moment: what was told is noted at once. Whoever asked is there.
                    let compacted = timeout(lasting, all.watch(index, &life.mvcc, &hash)).await;
                    let _ = done.send(compacted.ok().flatten());
                }
                .boxed()
            };
            if client.member().hand_in(Box::new(job)) {
                // The sender goes away with the job, or with its host.
                if let Ok(Some(compacted)) = ended.await {
                    self.note_end(index, compacted);
                    index = self.begin(&format!("{name} after the compaction"), compacted);
                }
            }
            client.go_on();
            sleep(RETRY_PAUSE).await;
        }
    }

    /// One watch until it ends; the revision to go on from if its place was compacted.
    async fn watch(&self, index: usize, mvcc: &Mvcc, hash: &EventHash) -> Option<i64> {
        let mut watcher = mvcc.watch(everything_from(self.wanted(index)));
        let mut ask_at = Instant::now() + PROGRESS_INTERVAL;
        loop {
            let next = timeout_at(ask_at, watcher.next()).await;
            if Instant::now() >= ask_at {
                ask_at += PROGRESS_INTERVAL;
                watcher.request_progress();
            }
            let Ok(ended) = next else { continue };
            let batch = ended.ok().flatten()?;
            hash.add(&format!("watcher {index}: {batch:?}"));
            if let WatchBatch::Compacted { compact_revision } = batch {
                return Some(compact_revision);
            }
            self.with(|state| take(&mut state.observed[index], batch));
        }
    }

    fn begin(&self, name: &str, start_revision: i64) -> usize {
        self.with(|state| {
            state.observed.push(Observed { watcher: name.to_owned(), start_revision, ..Observed::default() });
            state.observed.len() - 1
        })
    }

    /// The first revision that was not told yet.
    fn wanted(&self, index: usize) -> i64 {
        self.with(|state| state.observed[index].start_revision.max(state.observed[index].complete_to + 1))
    }

    fn note_end(&self, index: usize, compacted: i64) {
        let wanted = self.wanted(index);
        self.with(|state| {
            state.compacted += 1;
            if let Err(violation) = watch::check_end(&state.observed[index].watcher, wanted, compacted) {
                state.violation.get_or_insert(violation);
            }
        });
    }

    /// # Errors
    /// A watcher that saw something else than the log has, or that was ended without reason.
    pub fn check(&self, log: &[Event]) -> Result<(), Violation> {
        self.with(|state| match &state.violation {
            Some(violation) => Err(violation.clone()),
            None => state.observed.iter().try_for_each(|observed| watch::check(observed, log)),
        })
    }

    /// The number of events told, and that of watches ended by a compaction.
    pub fn counts(&self) -> (usize, u64) {
        let told = |state: &State| state.observed.iter().flat_map(|observed| &observed.answers).map(Vec::len).sum();
        self.with(|state| (told(state), state.compacted))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().expect("no panic while locked"))
    }
}

fn take(observed: &mut Observed, batch: WatchBatch) {
    match batch {
        WatchBatch::Events { revision, events } => {
            observed.complete_to = observed.complete_to.max(revision);
            observed.answers.push(events.into_iter().map(event).collect());
        }
        WatchBatch::Progress { revision } => {
            observed.progress.push((observed.answers.len(), revision));
            observed.complete_to = observed.complete_to.max(revision);
        }
        WatchBatch::Compacted { .. } => {}
    }
}
