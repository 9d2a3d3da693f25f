//! Transactions that read and append to lists, each committed by a compare of what it read. (2) strict
//! serializability, by cycles.

use std::sync::{Arc, Mutex};

use keelstone_checkers::{
    append_list::{self, Step, Txn},
    Ending, ListClient, Violation,
};
use keelstone_env::Random;
use keelstone_etcd_api::pb::request_op::Request;
use keelstone_store_client::{EtcdKv, GrpcKv, KvError};
use keelstone_world::SeededRandom;
use tokio::task::JoinHandle;

use super::{
    calls::{ending, modified_at, op, put, read_all, text, txn},
    Clients, Workload,
};
use crate::clock::moment_us;

const CLIENTS: u32 = 3;
const KEYS: u64 = 3;
const THINK_MS_MAX: u64 = 250;

#[derive(Default)]
pub struct Append {
    txns: Arc<Mutex<Vec<Txn>>>,
}

impl Workload for Append {
    fn name(&self) -> &'static str {
        "append"
    }

    fn start(&self, clients: &Clients) -> Vec<JoinHandle<()>> {
        let start = |client| {
            let random = clients.random(&format!("append {client}"));
            tokio::spawn(run(client, clients.kv(u64::from(client)), random, self.txns.clone(), clients.clone()))
        };
        (0..CLIENTS).map(start).collect()
    }

    fn check(&self) -> Result<(), Violation> {
        append_list::check(&self.txns.lock().expect("no panic while locked"))
    }
}

async fn run(client: u32, kv: GrpcKv, random: SeededRandom, txns: Arc<Mutex<Vec<Txn>>>, clients: Clients) {
    let mut lists = ListClient::new(client, (0..KEYS).map(|key| format!("append/{key}")), 60);
    while clients.effort.goes_on() {
        clients.think(&random, THINK_MS_MAX).await;
        let keys = lists.next_keys(|bound| random.below(bound));
        if keys.is_empty() {
            continue;
        }
        let start_us = moment_us();
        let mut steps = Vec::new();
        let ended = carry_out(&kv, &mut lists, &keys, &mut steps).await;
        let ending = ended.unwrap_or_else(|error| ending(&error));
        let txn = Txn { client, start_us, end_us: moment_us(), steps, ending };
        clients.effort.count_ending(&txn.ending, &format!("{txn:?}"));
        txns.lock().expect("no panic while locked").push(txn);
    }
}

/// Reads all keys at one revision, then writes if nothing has changed since.
async fn carry_out(
    kv: &GrpcKv,
    lists: &mut ListClient,
    keys: &[(String, bool)],
    steps: &mut Vec<Step>,
) -> Result<Ending, KvError> {
    let names: Vec<String> = keys.iter().map(|(key, _)| key.clone()).collect();
    let read = match read_all(kv, &names).await {
        Ok((found, _)) => found,
        // Nothing was written yet.
        Err(_) => return Ok(Ending::Failed),
    };
    let (mut compares, mut writes) = (Vec::new(), Vec::new());
    for ((key, appends), found) in keys.iter().zip(&read) {
        let value = found.as_ref().map(|kv| text(&kv.value)).unwrap_or_default();
        compares.push(modified_at(key, found.as_ref().map_or(0, |kv| kv.mod_revision)));
        if let Some(longer) = lists.take(key, &value, *appends, steps) {
            writes.push(op(Request::RequestPut(put(key, &longer))));
        }
    }
    if writes.is_empty() {
        return Ok(Ending::Ok);
    }
    let answer = kv.txn(txn(compares, writes)).await?;
    Ok(if answer.succeeded { Ending::Ok } else { Ending::Failed })
}
