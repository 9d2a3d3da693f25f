//! ConfigMaps as registers: create, update and patch with optimistic concurrency, delete, consistent reads, and reads that
//! ask for whatever a cache has (resourceVersion=0).

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc,
    },
};

use async_trait::async_trait;
use http::Method;
use keelstone_chaos_bed::Outcome as Made;
use keelstone_chaos_store::{
    workloads::{typed, Actor, Workload},
    Class, Cluster, Line,
};
use keelstone_checkers::{durability, linearizability, Call, Event, History, Operation, Outcome, Violation};
use rand::Rng;
use serde_json::{json, Value};

use super::{make_namespace, stored};
use crate::{
    api::{class, read_by_list, revision, Api},
    http_client::Sent,
};

const NAMESPACE: &str = "objects";
/// Where they lie in the store.
const PREFIX: &str = "/registry/core/configmaps/objects/";
/// Clients meet on so many keys at a time.
const SLOTS: u64 = 4;
/// Then a slot takes a new key: the search for an order is exponential in what is unknown of one key.
const TURNS_PER_KEY: u64 = 60;

#[derive(Debug)]
pub struct Objects {
    api: Arc<Api>,
    turns: AtomicU64,
}

fn collection() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

impl Objects {
    pub fn new(api: Arc<Api>) -> Self {
        Self { api, turns: AtomicU64::new(0) }
    }

    /// A list of the one object, because a list tells the revision that it was read at. Returns the object's revision, 0 if
    /// there is none.
    async fn read(&self, actor: &Actor, key: &str, cached: bool) -> Option<i64> {
        let at = if cached { "&resourceVersion=0" } else { "" };
        let path = format!("{}?fieldSelector=metadata.name%3D{key}{at}", collection());
        let start_us = actor.now_us();
        let sent = self.api.send(actor, Method::GET, &path, None).await;
        let (outcome, mod_revision) = match sent {
            Sent::Answer { code: 200, body } => {
                let (outcome, mod_revision) = read_by_list(&body);
                (outcome, Some(mod_revision))
            }
            other => (Outcome::Failed { error: other.success().err().unwrap_or_default() }, None),
        };
        let class = if mod_revision.is_some() { Class::Ok } else { Class::Failed };
        record(actor, if cached { "cached" } else { "read" }, start_us, class, Call::Read { key: key.into() }, outcome);
        mod_revision
    }

    /// A create, or an update of what was read.
    async fn compare_and_set(&self, actor: &Actor, key: &str, expected: i64, value: String) {
        let mut object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": key}, "data": {"value": value},
        });
        let (kind, method, path) = if expected == 0 {
            ("create", Method::POST, collection())
        } else {
            object["metadata"]["resourceVersion"] = expected.to_string().into();
            ("update", Method::PUT, format!("{}/{key}", collection()))
        };
        let start_us = actor.now_us();
        let sent = self.api.send(actor, method, &path, Some(&object)).await;
        let class = class(&sent);
        let outcome = match sent {
            // A conflict does not tell the revision; what is not there has another one too.
            Sent::Answer { code: 404 | 409, .. } => Outcome::Refused { revision: 0 },
            other => written(other),
        };
        record(actor, kind, start_us, class, Call::CompareAndSet { key: key.into(), expected, value }, outcome);
    }

    /// A patch without a precondition.
    async fn patch(&self, actor: &Actor, key: &str, value: String) {
        let start_us = actor.now_us();
        let body = json!({"data": {"value": value}});
        let sent = self.api.send(actor, Method::PATCH, &format!("{}/{key}", collection()), Some(&body)).await;
        let class = class(&sent);
        record(actor, "patch", start_us, class, Call::Write { key: key.into(), value }, written(sent));
    }

    async fn delete(&self, actor: &Actor, key: &str) {
        let start_us = actor.now_us();
        let sent = self.api.send(actor, Method::DELETE, &format!("{}/{key}", collection()), None).await;
        let class = class(&sent);
        record(actor, "delete", start_us, class, Call::Delete { key: key.into() }, written(sent));
    }
}

/// What became of a write.
fn written(sent: Sent) -> Outcome {
    let class = class(&sent);
    match sent {
        // A deletion's answer does not tell its revision.
        Sent::Answer { code: 200..=299, body } => Outcome::Written { revision: revision(&body) },
        other => {
            let error = other.success().err().unwrap_or_default();
            if class == Class::Unknown {
                Outcome::Unknown { error }
            } else {
                Outcome::Failed { error }
            }
        }
    }
}

fn record(actor: &Actor, kind: &str, start_us: u64, class: Class, call: Call, outcome: Outcome) {
    let writes = !call.is_read();
    let operation = Operation { client: actor.number, start_us, end_us: actor.now_us(), call, outcome };
    actor.record(start_us, kind, class, writes, &operation);
}

#[async_trait]
impl Workload for Objects {
    fn name(&self) -> &'static str {
        "objects"
    }

    fn clients(&self, hosts: u32) -> u32 {
        2 * hosts
    }

    async fn prepare(&self, _cluster: &Cluster) -> Made<()> {
        make_namespace(&self.api, NAMESPACE).await
    }

    async fn turn(&self, actor: &mut Actor) {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let key = format!("o{}-{}", actor.rng.random_range(0..SLOTS), turn / (TURNS_PER_KEY * SLOTS));
        let value = format!("{:x}", actor.unique());
        match actor.rng.random_range(0..12) {
            0..3 => drop(self.read(actor, &key, false).await),
            3 => drop(self.read(actor, &key, true).await),
            4 | 5 => self.patch(actor, &key, value).await,
            6 => self.delete(actor, &key).await,
            _ => {
                if let Some(expected) = self.read(actor, &key, false).await {
                    self.compare_and_set(actor, &key, expected, value).await;
                }
            }
        }
    }

    fn check(&self, lines: &[&Line], log: &[Event]) -> Result<(), Violation> {
        let own = values(log);
        let operations = typed(lines, &["read", "create", "update", "patch", "delete"])?;
        let history = History { operations };
        durability::check(&history, &own)?;
        linearizability::check(&history)?;
        cached_reads_were_true_once(&typed(lines, &["cached"])?, &own)
    }
}

/// The log of the objects, with what the clients wrote as values.
fn values(log: &[Event]) -> Vec<Event> {
    let own = log.iter().filter_map(|e| Some((e, e.key.strip_prefix(PREFIX)?)));
    let own = own.filter(|(_, name)| name.starts_with('o'));
    own.map(|(event, name)| {
        let text = |object: Value| object["data"]["value"].as_str().unwrap_or_default().to_owned();
        Event { revision: event.revision, key: name.to_owned(), value: stored(event).map(text) }
    })
    .collect()
}

/// A read of whatever a cache has may be old, but it shows one moment of the log.
fn cached_reads_were_true_once(reads: &[Operation], log: &[Event]) -> Result<(), Violation> {
    let mut by_key: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in log {
        by_key.entry(&event.key).or_default().push(event);
    }
    for read in reads {
        let Outcome::Read { value, mod_revision, revision } = &read.outcome else { continue };
        let changes = by_key.get(read.call.key()).map(Vec::as_slice).unwrap_or_default();
        let then = changes.iter().take_while(|e| e.revision <= *revision).last();
        let (was, at) = then.map_or((None, 0), |e| (e.value.clone(), e.value.as_ref().map_or(0, |_| e.revision)));
        if (&was, at) != (value, *mod_revision) {
            let story = format!("{read:?}, but at that revision the log has {was:?} of {at}");
            return Err(Violation::new("cached reads", story));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: i64, value: Option<&str>) -> Event {
        Event { revision, key: "o1".into(), value: value.map(Into::into) }
    }

    fn cached(value: Option<&str>, mod_revision: i64, revision: i64) -> Operation {
        let outcome = Outcome::Read { value: value.map(Into::into), mod_revision, revision };
        Operation { client: 1, start_us: 0, end_us: 1, call: Call::Read { key: "o1".into() }, outcome }
    }

    #[test]
    fn a_cached_read_is_old_but_never_wrong() {
        let log = [event(3, Some("a")), event(5, Some("b")), event(8, None)];
        for (read, right) in [
            (cached(Some("a"), 3, 4), true),
            (cached(None, 0, 2), true),
            (cached(None, 0, 9), true),
            (cached(Some("a"), 3, 6), false),
            (cached(Some("b"), 3, 6), false),
            (cached(None, 0, 6), false),
        ] {
            assert_eq!(cached_reads_were_true_once(std::slice::from_ref(&read), &log).is_ok(), right, "{read:?}");
        }
    }

    #[test]
    fn the_log_is_read_as_values() {
        let stored = "kso\u{1}{\"metadata\":{},\"data\":{\"value\":\"x\"}}";
        let log = [
            Event { revision: 4, key: format!("{PREFIX}o1"), value: Some(stored.into()) },
            Event { revision: 5, key: "/registry/core/configmaps/other/o1".into(), value: None },
        ];
        assert_eq!(values(&log), [event(4, Some("x"))]);
    }
}
