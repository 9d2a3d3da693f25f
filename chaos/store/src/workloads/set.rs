//! Sets: elements are keys, added by puts and read by one range.

use std::collections::BTreeMap;

use async_trait::async_trait;
use keelstone_chaos_bed::{Failure, Outcome};
use keelstone_checkers::{
    set::{check, Call, Operation},
    Event, Violation,
};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{ending, typed, Actor, Workload};
use crate::{
    etcd_client::{prefix, put, revision, text, Reply},
    record::{Class, Line},
};

/// Turns of a client on one set: reads stay short.
const TURNS_PER_SET: u64 = 80;

#[derive(Debug)]
pub struct Sets;

/// An operation on one of the sets.
#[derive(Debug, Serialize, Deserialize)]
struct OnSet {
    set: u64,
    operation: Operation,
}

#[async_trait]
impl Workload for Sets {
    fn name(&self) -> &'static str {
        "set"
    }

    async fn turn(&self, actor: &mut Actor) {
        let set = actor.turn / TURNS_PER_SET;
        match actor.rng.random_range(0..4) {
            0 => drop(read(actor, set).await),
            _ => add(actor, set).await,
        }
    }

    /// All sets of all clients, once more: what was acknowledged must be there at the end.
    async fn finish(&self, actor: &mut Actor) -> Outcome<()> {
        let last = last_set(actor).await?;
        for set in 0..=last {
            if read(actor, set).await != Class::Ok {
                return Err(Failure::impossible(format!("set {set} cannot be read at the end")));
            }
        }
        Ok(())
    }

    fn check(&self, lines: &[&Line], _log: &[Event]) -> Result<(), Violation> {
        let mut sets: BTreeMap<u64, Vec<Operation>> = BTreeMap::new();
        for on in typed::<OnSet>(lines, &["add", "read"])? {
            sets.entry(on.set).or_default().push(on.operation);
        }
        sets.values().try_for_each(|operations| check(operations))
    }
}

/// The highest number of a set that anything was added to.
async fn last_set(actor: &mut Actor) -> Outcome<u64> {
    let all = actor.client.range(prefix("set/")).await;
    let Reply::Ok(all) = all else { return Err(Failure::impossible("the sets cannot be read at the end")) };
    let sets = all.kvs.iter().filter_map(|kv| text(&kv.key).split('/').nth(1)?.parse().ok());
    Ok(sets.max().unwrap_or(0))
}

async fn add(actor: &mut Actor, set: u64) {
    let element = actor.unique();
    let start_us = actor.now_us();
    let reply = actor.client.put(put(&format!("set/{set:04}/{element}"), "")).await;
    record(actor, set, start_us, "add", reply.class(), Call::Add { element });
}

async fn read(actor: &mut Actor, set: u64) -> Class {
    let start_us = actor.now_us();
    let reply = actor.client.range(prefix(&format!("set/{set:04}/"))).await;
    let class = reply.class();
    let (mut elements, mut at) = (Vec::new(), 0);
    if let Reply::Ok(answer) = reply {
        elements = answer.kvs.iter().filter_map(|kv| text(&kv.key).rsplit('/').next()?.parse().ok()).collect();
        at = revision(&answer.header);
    }
    record(actor, set, start_us, "read", class, Call::Read { elements, revision: at });
    class
}

fn record(actor: &Actor, set: u64, start_us: u64, kind: &str, class: Class, call: Call) {
    let operation = Operation { client: actor.number, start_us, end_us: actor.now_us(), call, ending: ending(class) };
    actor.record(start_us, kind, class, kind == "add", &OnSet { set, operation });
}
