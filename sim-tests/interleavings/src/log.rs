//! The log of changes as a watch from the first revision tells it, read part by part, before each compaction.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt;
use keelstone_checkers::{Event, Violation};
use keelstone_env::Random;
use keelstone_etcd_api::{mvccpb, mvccpb::event::EventType, pb};
use keelstone_mvcc::{Mvcc, Op, WatchBatch, WatchSpec};
use keelstone_world::SeededRandom;
use tokio::{sync::oneshot, time::sleep};

use crate::{member::Life, workloads::Load};

/// All keys.
const EVERYTHING: &[u8] = &[0];
const COMPACTION_PAUSE_MS_MAX: u64 = 800;
/// Revisions that a compaction leaves of those that were read.
const KEPT_REVISIONS_MAX: u64 = 10;

#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    events: Vec<Event>,
    complete_to: i64,
}

/// A watch of all keys.
pub fn everything_from(start_revision: i64) -> WatchSpec {
    WatchSpec { key: EVERYTHING.into(), range_end: EVERYTHING.into(), start_revision, ..WatchSpec::default() }
}

/// The change that an event of a watch tells.
pub fn event(event: mvccpb::Event) -> Event {
    let kv = event.kv.unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let deleted = event.r#type == EventType::Delete as i32;
    Event { revision: kv.mod_revision, key: text(&kv.key), value: (!deleted).then(|| text(&kv.value)) }
}

impl Log {
    pub fn events(&self) -> Vec<Event> {
        self.with(|state| state.events.clone())
    }

    /// Reads up to the newest revision of `mvcc`. What is read stays read if it is not awaited to its end.
    ///
    /// # Errors
    /// If the watch ends before it has told all.
    pub async fn read(&self, mvcc: &Mvcc) -> Result<(), Violation> {
        let newest = mvcc.revision();
        let mut watcher = mvcc.watch(everything_from(self.with(|state| state.complete_to) + 1));
        // Every revision but the first, of the empty store, has changes.
        while newest > 1 && self.with(|state| state.complete_to) < newest {
            match watcher.next().await {
                Ok(Some(WatchBatch::Events { revision, events })) => self.with(|state| {
                    state.events.extend(events.into_iter().map(event));
                    state.complete_to = revision;
                }),
                Ok(Some(WatchBatch::Progress { .. })) => {}
                ended => {
                    let story = format!("the log ended before revision {newest}: {ended:?}");
                    return Err(Violation::new("watch (5)", story));
                }
            }
        }
        Ok(())
    }

    /// Now and then, at a member: reads the log and compacts the store somewhere in what was read.
    pub async fn compact(self, load: Load, random: SeededRandom) {
        while load.goes_on() {
            sleep(Duration::from_millis(random.below(COMPACTION_PAUSE_MS_MAX))).await;
            let client = load.client(random.below(3));
            let (log, hash, back) = (self.clone(), load.hash.clone(), random.below(KEPT_REVISIONS_MAX) as i64);
            let (done, ended) = oneshot::channel::<()>();
            let job = move |life: Life| {
                async move {
                    let _done = done;
                    if log.read(&life.mvcc).await.is_ok() {
                        let revision = log.with(|state| state.complete_to) - back;
                        let request = pb::CompactionRequest { revision, physical: false };
                        hash.add(&format!(
                            "compaction at {revision}: {:?}",
                            life.node.propose(Op::Compact(request)).await
                        ));
                    }
                }
                .boxed()
            };
            if client.member().hand_in(Box::new(job)) {
                // The sender goes away with the job, or with its host.
                let _ = ended.await;
            }
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().expect("no panic while locked"))
    }
}
