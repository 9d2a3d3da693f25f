//! Transactions over lists: read some, append to some. A list is a key's value; a transaction reads all its keys at one
//! revision and then writes under the guard that none of them changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use keelstone_checkers::{
    append_list::{check, Step, Txn},
    Event, Violation,
};
use keelstone_etcd_api::pb;
use rand::Rng;

use super::{ending, typed, Actor, Workload};
use crate::{
    etcd_client::{get, op, put, text, unchanged, Reply},
    record::Line,
};

const SLOTS: u64 = 3;
/// Then a slot takes a new key: lists stay short.
const TURNS_PER_KEY: u64 = 60;
const STEPS_MAX: u64 = 4;

#[derive(Debug, Default)]
pub struct AppendLists {
    turns: AtomicU64,
}

#[async_trait]
impl Workload for AppendLists {
    fn name(&self) -> &'static str {
        "append"
    }

    async fn turn(&self, actor: &mut Actor) {
        let epoch = self.turns.fetch_add(1, Ordering::Relaxed) / (TURNS_PER_KEY * SLOTS);
        let count = actor.rng.random_range(1..=STEPS_MAX);
        let steps: Vec<Step> = (0..count)
            .map(|i| {
                let key = format!("append/{}/{epoch}", actor.rng.random_range(0..SLOTS));
                match actor.rng.random_bool(0.5) {
                    true => Step::Append { key, element: actor.unique() * STEPS_MAX + i },
                    false => Step::Read { key, list: Vec::new() },
                }
            })
            .collect();
        let start_us = actor.now_us();
        let (steps, reply) = carry_out(actor, steps).await;
        let writes = steps.iter().any(|s| matches!(s, Step::Append { .. }));
        let class = reply.class();
        let txn = Txn { client: actor.number, start_us, end_us: actor.now_us(), steps, ending: ending(class) };
        actor.record(start_us, "txn", class, writes, &txn);
    }

    fn check(&self, lines: &[&Line], _log: &[Event]) -> Result<(), Violation> {
        check(&typed::<Txn>(lines, &["txn"])?)
    }
}

/// A key as it was read: its list and its modification revision.
type Lists = BTreeMap<String, (Vec<u64>, i64)>;

fn key_of(step: &Step) -> &str {
    match step {
        Step::Append { key, .. } | Step::Read { key, .. } => key,
    }
}

async fn carry_out(actor: &mut Actor, steps: Vec<Step>) -> (Vec<Step>, Reply<()>) {
    let keys: BTreeSet<String> = steps.iter().map(|s| key_of(s).to_owned()).collect();
    let request = pb::TxnRequest { success: keys.iter().map(|k| op::range(get(k))).collect(), ..Default::default() };
    // Nothing was sent yet that changes anything.
    let read = match actor.client.txn(request).await.of_read() {
        Reply::Ok(answer) => answer,
        Reply::Failed(error) | Reply::Unknown(error) => return (steps, Reply::Failed(error)),
    };
    let mut lists: Lists = BTreeMap::new();
    for (key, range) in keys.into_iter().zip(op::ranges(&read)) {
        let kv = range.kvs.first();
        let list = kv.map(|kv| text(&kv.value)).unwrap_or_default();
        let list = list.split_whitespace().filter_map(|e| e.parse().ok()).collect();
        lists.insert(key, (list, kv.map_or(0, |kv| kv.mod_revision)));
    }
    let guards: Vec<pb::Compare> = lists.iter().map(|(key, (_, revision))| unchanged(key, *revision)).collect();
    let mut changed = BTreeSet::new();
    let steps: Vec<Step> = steps
        .into_iter()
        .map(|step| match step {
            Step::Append { key, element } => {
                if let Some((list, _)) = lists.get_mut(&key) {
                    list.push(element);
                }
                changed.insert(key.clone());
                Step::Append { key, element }
            }
            Step::Read { key, .. } => {
                let list = lists.get(&key).map(|(list, _)| list.clone()).unwrap_or_default();
                Step::Read { key, list }
            }
        })
        .collect();
    if changed.is_empty() {
        return (steps, Reply::Ok(()));
    }
    let puts = changed.iter().map(|key| {
        let list: Vec<String> = lists[key].0.iter().map(u64::to_string).collect();
        op::put(put(key, list.join(" ")))
    });
    let request = pb::TxnRequest { compare: guards, success: puts.collect(), failure: vec![] };
    let reply = match actor.client.txn(request).await {
        Reply::Ok(answer) if !answer.succeeded => Reply::Failed("a key had changed".into()),
        other => other.map(drop),
    };
    (steps, reply)
}
