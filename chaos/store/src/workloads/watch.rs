//! Watch followers: each follows every change of the register and append keys, leaves now and then, or is thrown off, and
//! resumes with the revision after the last that it was told.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use keelstone_chaos_bed::Outcome;
use keelstone_checkers::{watch, Event, Violation};
use keelstone_etcd_api::pb;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{typed, Actor, Workload};
use crate::{
    constants::WATCH_ANSWERS_MAX,
    etcd_client::{range_end, text},
    record::{Class, Line},
};

/// Silence for so long, and the follower resumes elsewhere: the stream may be dead.
const SILENCE_MAX: Duration = Duration::from_secs(4);

#[derive(Debug, Default)]
pub struct Followers {
    seen: Mutex<BTreeMap<u32, Seen>>,
}

/// What one follower was told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Seen {
    answers: Vec<Vec<Event>>,
    complete_to: i64,
    resumed: u32,
}

/// An event as the checkers have it.
pub fn event(event: &keelstone_etcd_api::mvccpb::Event) -> Event {
    let kv = event.kv.clone().unwrap_or_default();
    let put = event.r#type == i32::from(keelstone_etcd_api::mvccpb::event::EventType::Put);
    Event { revision: kv.mod_revision, key: text(&kv.key), value: put.then(|| text(&kv.value)) }
}

impl Followers {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<u32, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when the stream is over.
    fn take(&self, number: u32, answer: &pb::WatchResponse) -> bool {
        if answer.canceled {
            return false;
        }
        let mut all = self.seen();
        let seen = all.entry(number).or_default();
        let events: Vec<Event> = answer.events.iter().map(event).collect();
        let progress = events.is_empty() && !answer.created;
        let told = match events.last() {
            Some(last) => last.revision,
            None if progress => answer.header.as_ref().map_or(0, |h| h.revision),
            None => 0,
        };
        seen.complete_to = seen.complete_to.max(told);
        if !events.is_empty() {
            seen.answers.push(events);
        }
        seen.answers.len() < WATCH_ANSWERS_MAX
    }
}

#[async_trait]
impl Workload for Followers {
    fn name(&self) -> &'static str {
        "watch"
    }

    /// A turn takes seconds.
    fn acknowledged_min(&self) -> usize {
        3
    }

    /// One stream, for a while.
    async fn turn(&self, actor: &mut Actor) {
        let from = {
            let mut all = self.seen();
            let seen = all.entry(actor.number).or_default();
            seen.resumed += 1;
            seen.complete_to + 1
        };
        let create = pb::WatchCreateRequest {
            key: "append/".into(),
            range_end: range_end("register/").into(),
            start_revision: from,
            progress_notify: true,
            ..Default::default()
        };
        let start_us = actor.now_us();
        let mut stream = match actor.client.watch(create).await {
            Ok(stream) => stream,
            Err(error) => return actor.record(start_us, "follow", Class::Failed, false, &error),
        };
        let leave_at = tokio::time::Instant::now() + Duration::from_millis(actor.rng.random_range(3_000..15_000));
        while let Ok(Ok(Ok(Some(answer)))) =
            tokio::time::timeout_at(leave_at, tokio::time::timeout(SILENCE_MAX, stream.message())).await
        {
            if !self.take(actor.number, &answer) {
                break;
            }
        }
        actor.record(start_us, "follow", Class::Ok, false, &from);
    }

    /// What each follower saw.
    async fn finish(&self, actor: &mut Actor) -> Outcome<()> {
        for (number, seen) in self.seen().clone() {
            let line = Line {
                source: self.name().into(),
                client: number,
                host: String::new(),
                start_us: actor.now_us(),
                end_us: actor.now_us(),
                kind: "seen".into(),
                class: Class::Info,
                writes: false,
                what: serde_json::to_value(seen).unwrap_or_default(),
            };
            actor.recorder.add(line);
        }
        Ok(())
    }

    fn check(&self, lines: &[&Line], log: &[Event]) -> Result<(), Violation> {
        let own: Vec<Event> = log.iter().filter(|e| followed(e)).cloned().collect();
        for seen in typed::<Seen>(lines, &["seen"])? {
            let observed = watch::Observed {
                watcher: format!("that resumed {} times", seen.resumed),
                start_revision: 1,
                answers: seen.answers,
                complete_to: seen.complete_to,
                ..watch::Observed::default()
            };
            watch::check(&observed, &own)?;
        }
        Ok(())
    }
}

/// Over all followers of a history: events of the log that one was not told though it was told later ones, and events
/// that one was told more than once.
pub fn lost_and_repeated(lines: &[Line]) -> (usize, usize) {
    let log = lines.iter().find(|l| l.source == crate::ending::STORE && l.kind == "log");
    let log: Vec<Event> = log.and_then(|l| l.read().ok()).unwrap_or_default();
    let (mut lost, mut repeated) = (0, 0);
    for seen in lines.iter().filter(|l| l.source == "watch" && l.kind == "seen") {
        let Ok(seen) = seen.read::<Seen>() else { continue };
        let told: Vec<&Event> = seen.answers.iter().flatten().collect();
        let distinct: std::collections::BTreeSet<&Event> = told.iter().copied().collect();
        repeated += told.len() - distinct.len();
        let due = log.iter().filter(|e| followed(e) && e.revision <= seen.complete_to);
        lost += due.filter(|e| !distinct.contains(e)).count();
    }
    (lost, repeated)
}

fn followed(event: &Event) -> bool {
    event.key.as_str() >= "append/" && event.key.as_str() < "register0"
}
