//! Registers: reads, writes, deletions and compare-and-sets of single keys.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use keelstone_checkers::{durability, linearizability, Call, Event, History, Operation, Outcome, Violation};
use rand::Rng;

use super::{typed, Actor, Workload};
use crate::{
    etcd_client::{get, op, put, revision, text, unchanged, Reply},
    record::{Class, Line},
};
use keelstone_etcd_api::pb;

/// Clients meet on so many keys at a time.
const SLOTS: u64 = 4;
/// Then a slot takes a new key: the search for an order is exponential in what is unknown of one key.
const TURNS_PER_KEY: u64 = 150;

#[derive(Debug, Default)]
pub struct Registers {
    turns: AtomicU64,
}

#[async_trait]
impl Workload for Registers {
    fn name(&self) -> &'static str {
        "register"
    }

    async fn turn(&self, actor: &mut Actor) {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let key = format!("register/{}/{}", actor.rng.random_range(0..SLOTS), turn / (TURNS_PER_KEY * SLOTS));
        let value = format!("{:x}", actor.unique());
        match actor.rng.random_range(0..10) {
            0..4 => drop(read(actor, &key).await),
            4..6 => write(actor, &key, value).await,
            6 => delete(actor, &key).await,
            _ => {
                if let Some(expected) = read(actor, &key).await {
                    compare_and_set(actor, &key, expected, value).await;
                }
            }
        }
    }

    fn check(&self, lines: &[&Line], log: &[Event]) -> Result<(), Violation> {
        let history = History { operations: typed(lines, &["read", "write", "cas", "delete"])? };
        let own: Vec<Event> = log.iter().filter(|e| e.key.starts_with("register/")).cloned().collect();
        durability::check(&history, &own)?;
        linearizability::check(&history)
    }
}

fn record(actor: &Actor, kind: &str, start_us: u64, class: Class, call: Call, outcome: Outcome) {
    let writes = !call.is_read() && !matches!(outcome, Outcome::Refused { .. });
    let operation = Operation { client: actor.number, start_us, end_us: actor.now_us(), call, outcome };
    actor.record(start_us, kind, class, writes, &operation);
}

/// What became of a write: `Ok` holds the revision.
fn written(reply: &Reply<i64>) -> Outcome {
    match reply {
        Reply::Ok(revision) => Outcome::Written { revision: *revision },
        Reply::Failed(error) => Outcome::Failed { error: error.clone() },
        Reply::Unknown(error) => Outcome::Unknown { error: error.clone() },
    }
}

/// Returns the key's modification revision, 0 if it is absent.
async fn read(actor: &mut Actor, key: &str) -> Option<i64> {
    let start_us = actor.now_us();
    let reply = actor.client.range(get(key)).await;
    let class = reply.class();
    let (outcome, mod_revision) = match reply {
        Reply::Ok(answer) => {
            let kv = answer.kvs.first();
            let mod_revision = kv.map_or(0, |kv| kv.mod_revision);
            let value = kv.map(|kv| text(&kv.value));
            (Outcome::Read { value, mod_revision, revision: revision(&answer.header) }, Some(mod_revision))
        }
        Reply::Failed(error) | Reply::Unknown(error) => (Outcome::Failed { error }, None),
    };
    record(actor, "read", start_us, class, Call::Read { key: key.into() }, outcome);
    mod_revision
}

async fn write(actor: &mut Actor, key: &str, value: String) {
    let start_us = actor.now_us();
    let reply = actor.client.put(put(key, value.clone())).await.map(|a| revision(&a.header));
    let call = Call::Write { key: key.into(), value };
    record(actor, "write", start_us, reply.class(), call, written(&reply));
}

async fn delete(actor: &mut Actor, key: &str) {
    let start_us = actor.now_us();
    let request = pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    let reply = actor.client.delete(request).await.map(|a| revision(&a.header));
    record(actor, "delete", start_us, reply.class(), Call::Delete { key: key.into() }, written(&reply));
}

async fn compare_and_set(actor: &mut Actor, key: &str, expected: i64, value: String) {
    let request = pb::TxnRequest {
        compare: vec![unchanged(key, expected)],
        success: vec![op::put(put(key, value.clone()))],
        failure: vec![],
    };
    let start_us = actor.now_us();
    let reply = actor.client.txn(request).await;
    let class = reply.class();
    let outcome = match reply {
        Reply::Ok(answer) if !answer.succeeded => Outcome::Refused { revision: revision(&answer.header) },
        other => written(&other.map(|a| revision(&a.header))),
    };
    record(actor, "cas", start_us, class, Call::CompareAndSet { key: key.into(), expected, value }, outcome);
}
