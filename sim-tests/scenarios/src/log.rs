use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::StreamExt;
use keelstone_checkers::Event;
use keelstone_etcd_api::{mvccpb, pb};
use keelstone_store_client::{EtcdKv, KvError};
use tokio::sync::mpsc;

use crate::simulation::Shared;

/// Watches may be told one change at a time, with pauses: some 25 changes a simulated second.
const READ_TIME_MAX: Duration = Duration::from_secs(60);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// The store's log of changes, read through watches: part by part before each compaction, and the rest at
/// the end.
#[derive(Clone)]
pub struct Log {
    range: (String, String),
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    complete_to: i64,
    compacted: i64,
}

/// A watch of `first..end` from a revision on.
pub fn watch_request(first: &str, end: &str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: first.to_owned().into(),
        range_end: end.to_owned().into(),
        start_revision,
        progress_notify: true,
        ..Default::default()
    }
}

/// The change that an event of a watch tells.
pub fn event(event: mvccpb::Event) -> Event {
    let deleted = event.r#type == mvccpb::event::EventType::Delete as i32;
    let kv = event.kv.unwrap_or_default();
    Event {
        revision: kv.mod_revision,
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        value: (!deleted).then(|| String::from_utf8_lossy(&kv.value).into_owned()),
    }
}

impl Log {
    /// The log of the keys in `first..end`.
    pub fn new(first: &str, end: &str) -> Self {
        Self { range: (first.to_owned(), end.to_owned()), state: Arc::default() }
    }

    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// Reads the log up to now and compacts it there, or after so many of 100 parts of what came since the last time.
    /// What fails is left for the next time.
    pub async fn compact(&self, kv: &dyn EtcdKv, shared: &Shared, percent: u64) {
        if let Err(error) = self.read(kv).await {
            shared.hash(&format!("log: {error}"));
            return;
        }
        let revision = {
            let state = self.state();
            state.compacted + (state.complete_to - state.compacted) * percent as i64 / 100
        };
        // At the newest revision, what became unreadable is to go at once.
        match kv.compact(pb::CompactionRequest { revision, physical: percent == 100 }).await {
            Ok(_) => {
                self.state().compacted = revision;
                shared.saw("compactions");
            }
            Err(error) => shared.hash(&format!("compaction at {revision}: {error}")),
        }
    }

    /// Reads the log up to the store's current revision.
    pub async fn read(&self, kv: &dyn EtcdKv) -> Result<(), KvError> {
        let reading = tokio::time::timeout(READ_TIME_MAX, self.read_on(kv));
        reading.await.unwrap_or_else(|_| Err(KvError::Unreachable("the log was not read in time".into())))
    }

    async fn read_on(&self, kv: &dyn EtcdKv) -> Result<(), KvError> {
        let key = pb::RangeRequest { key: "k".into(), ..Default::default() };
        let to = kv.range(key).await?.header.map_or(0, |header| header.revision);
        let from = self.state().complete_to + 1;
        let (progress, requests) = mpsc::channel(1);
        let mut stream = kv.watch_with_progress(watch_request(&self.range.0, &self.range.1, from), requests).await?;
        // What is read stays read when the rest takes too long.
        while self.state().complete_to < to {
            let answer = tokio::select! {
                biased;
                answer = stream.next() => answer,
                () = tokio::time::sleep(PROGRESS_INTERVAL) => {
                    // A queue that is full has such a request already.
                    let _ = progress.try_send(());
                    continue;
                }
            };
            let Some(response) = answer.transpose()? else {
                return Err(KvError::Unreachable("the watch of the log ended".into()));
            };
            if response.canceled {
                return Err(KvError::Refused(response.cancel_reason));
            }
            let told = response.header.as_ref().map_or(0, |header| header.revision);
            let part: Vec<Event> = response.events.into_iter().map(event).collect();
            let mut state = self.state();
            match part.last() {
                Some(last) => state.complete_to = last.revision,
                None if !response.created => state.complete_to = state.complete_to.max(told),
                None => {}
            }
            state.events.extend(part);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }
}
