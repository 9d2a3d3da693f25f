use std::{sync::Arc, time::Duration};

use async_stream::stream;
use futures::StreamExt;
use keelstone_etcd_api::{mvccpb::Event, pb};

use crate::{
    constants::{BACKOFF_MS_MAX, BACKOFF_MS_MIN},
    EtcdKv, KvError, WatchStream,
};

/// A watch that goes on at another member when its own goes away: each event once, in order, none left out. It ends
/// when the store ends it (compaction), on an error that another member would give as well, or when it is dropped.
///
/// The responses of one revision are passed on together, whatever fragments they came in: a stream that breaks in
/// their middle is then asked for that revision again, and nothing of it was passed on before.
pub fn resume(kv: Arc<dyn EtcdKv>, request: pb::WatchCreateRequest) -> WatchStream {
    stream! {
        let mut place = Place { next: request.start_revision, created: false, fragments: Vec::new() };
        let mut backoff = Duration::from_millis(BACKOFF_MS_MIN);
        loop {
            let from = pb::WatchCreateRequest { start_revision: place.next, ..request.clone() };
            let ended = match kv.watch(from).await {
                Err(error) => error,
                Ok(mut watch) => loop {
                    match watch.next().await {
                        Some(Ok(response)) => {
                            backoff = Duration::from_millis(BACKOFF_MS_MIN);
                            let last = response.canceled;
                            if let Some(response) = place.take(response) {
                                yield Ok(response);
                            }
                            if last {
                                return;
                            }
                        }
                        Some(Err(error)) => break error,
                        None => break KvError::Unreachable("the watch ended".into()),
                    }
                },
            };
            place.fragments.clear();
            if !may_pass(&ended) {
                yield Err(ended);
                return;
            }
            tracing::debug!(error = %ended, next = place.next, "a watch is opened again");
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(Duration::from_millis(BACKOFF_MS_MAX));
        }
    }
    .boxed()
}

/// True for errors that end when a member comes back or another is asked.
fn may_pass(error: &KvError) -> bool {
    match error {
        KvError::Unknown(_) | KvError::Unreachable(_) => true,
        KvError::Refused(_) => false,
        KvError::Api(api) => {
            let code = api.code();
            matches!(code, tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Cancelled)
                || code == tonic::Code::ResourceExhausted
        }
    }
}

/// How far a watch has come.
struct Place {
    /// The first revision that was not passed on; 0 until the store has said where the watch begins.
    next: i64,
    created: bool,
    /// Events of a revision that is not whole yet.
    fragments: Vec<Event>,
}

impl Place {
    /// What of a response is new, if anything.
    fn take(&mut self, mut response: pb::WatchResponse) -> Option<pb::WatchResponse> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.created {
            if self.next == 0 {
                self.next = revision + 1;
            }
            // The caller knows that it was created from the first time.
            let first = !std::mem::replace(&mut self.created, true);
            return (first || response.canceled).then_some(response);
        }
        let events = std::mem::take(&mut response.events);
        let progress = events.is_empty() && self.fragments.is_empty();
        self.fragments.extend(events.into_iter().filter(|event| revision_of(event) >= self.next));
        if response.fragment {
            return None;
        }
        response.events = std::mem::take(&mut self.fragments);
        if let Some(last) = response.events.last() {
            self.next = revision_of(last) + 1;
        } else if progress && !response.canceled {
            // Everything up to here was passed on.
            self.next = self.next.max(revision + 1);
        }
        (progress || response.canceled || !response.events.is_empty()).then_some(response)
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
