//! Transactions that read and append to lists, each guarded by what it read. (2) strict serializability, by cycles.

use std::sync::{Arc, Mutex};

use keelstone_checkers::{
    append_list::{self, Step, Txn},
    Ending, Event, ListClient, Violation,
};
use keelstone_env::Random;
use keelstone_world::SeededRandom;
use tokio::task::JoinHandle;

use super::{get, guarded, put, text, think, write, Load, Workload};
use crate::cluster::{moment_us, CallError, Client};

const CLIENTS: u32 = 3;
const KEYS: u64 = 2;
const THINK_MS_MAX: u64 = 150;

#[derive(Default)]
pub struct Lists {
    txns: Arc<Mutex<Vec<Txn>>>,
}

impl Workload for Lists {
    fn start(&self, load: &Load) -> Vec<JoinHandle<()>> {
        let start = |id| {
            let random = load.random(&format!("list {id}"));
            tokio::spawn(run(id, load.client(u64::from(id)), random, self.txns.clone(), load.clone()))
        };
        (0..CLIENTS).map(start).collect()
    }

    fn check(&self, _: &[Event]) -> Result<(), Violation> {
        append_list::check(&self.txns.lock().expect("no panic while locked"))
    }
}

async fn run(id: u32, client: Client, random: SeededRandom, txns: Arc<Mutex<Vec<Txn>>>, load: Load) {
    let mut lists = ListClient::new(id, (0..KEYS).map(|key| format!("list/{key}")), 70);
    while load.goes_on() {
        think(&random, THINK_MS_MAX).await;
        let keys = lists.next_keys(|bound| random.below(bound));
        if keys.is_empty() {
            continue;
        }
        let (start_us, mut steps) = (moment_us(), Vec::new());
        let ended = carry_out(&client, &mut lists, &keys, &mut steps).await;
        let ending = ended.unwrap_or_else(|error| error.ending());
        if ending != Ending::Ok {
            client.go_on();
        }
        let txn = Txn { client: id, start_us, end_us: moment_us(), steps, ending };
        load.ended(&txn.ending, &format!("{txn:?}"));
        txns.lock().expect("no panic while locked").push(txn);
    }
}

/// Reads the keys one after the other, then writes, or only looks, if nothing of them has changed since.
async fn carry_out(
    client: &Client,
    lists: &mut ListClient,
    keys: &[(String, bool)],
    steps: &mut Vec<Step>,
) -> Result<Ending, CallError> {
    let (mut guards, mut puts) = (Vec::new(), Vec::new());
    for (key, appends) in keys {
        // Nothing was written yet: a read that failed ends the transaction without effect.
        let Ok(read) = client.range(get(key)).await else { return Ok(Ending::Failed) };
        let found = read.kvs.first();
        let value = found.map(|kv| text(&kv.value)).unwrap_or_default();
        guards.push((key.as_str(), found.map_or(0, |kv| kv.mod_revision)));
        if let Some(longer) = lists.take(key, &value, *appends, steps) {
            puts.push(put(key, &longer));
        }
    }
    let (_, done) = write(client, guarded(&guards, puts)).await?;
    Ok(if done { Ending::Ok } else { Ending::Failed })
}
