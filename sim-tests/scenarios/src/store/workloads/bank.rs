//! Transfers between accounts, each a compare-and-set of two keys, and reads of all of them. (2)

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use keelstone_checkers::{
    bank::{self, Call, Operation},
    Ending, Violation,
};
use keelstone_env::Random;
use keelstone_etcd_api::pb::request_op::Request;
use keelstone_store_client::{EtcdKv, GrpcKv, KvError};
use keelstone_world::SeededRandom;
use tokio::task::JoinHandle;

use super::{
    calls::{created_at, ending, modified_at, op, prefix, put, read_all, revision, text, txn},
    Clients, Workload,
};
use crate::clock::moment_us;

const CLIENTS: u32 = 2;
const ACCOUNTS: u64 = 5;
const BALANCE: i64 = 100;
const PREFIX: &str = "bank/";
const THINK_MS_MAX: u64 = 250;

#[derive(Default)]
pub struct Bank {
    operations: Arc<Mutex<Vec<Operation>>>,
}

fn account(number: u64) -> String {
    format!("{PREFIX}{number}")
}

impl Workload for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    fn start(&self, clients: &Clients) -> Vec<JoinHandle<()>> {
        let start = |client| {
            let random = clients.random(&format!("bank {client}"));
            tokio::spawn(run(client, clients.kv(u64::from(client)), random, self.operations.clone(), clients.clone()))
        };
        (0..CLIENTS).map(start).collect()
    }

    fn check(&self) -> Result<(), Violation> {
        let start = (0..ACCOUNTS).map(|number| (account(number), BALANCE)).collect();
        bank::check(&start, &self.operations.lock().expect("no panic while locked"))
    }
}

async fn run(client: u32, kv: GrpcKv, random: SeededRandom, all: Arc<Mutex<Vec<Operation>>>, clients: Clients) {
    open(&kv, &clients, &random).await;
    while clients.effort.goes_on() {
        clients.think(&random, THINK_MS_MAX).await;
        let start_us = moment_us();
        let (call, ended) = if random.chance(70) {
            let from = random.below(ACCOUNTS);
            let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
            transfer(&kv, account(from), account(to), 1 + random.below(20) as i64).await
        } else {
            read(&kv).await
        };
        let ending = ended.unwrap_or_else(|error| ending(&error));
        let operation = Operation { client, start_us, end_us: moment_us(), call, ending };
        clients.effort.count_ending(&operation.ending, &format!("{operation:?}"));
        all.lock().expect("no panic while locked").push(operation);
    }
}

/// All accounts come to be at once; whoever is first makes them.
async fn open(kv: &GrpcKv, clients: &Clients, random: &SeededRandom) {
    while clients.effort.goes_on() {
        let puts = (0..ACCOUNTS).map(|n| op(Request::RequestPut(put(&account(n), &BALANCE.to_string())))).collect();
        if kv.txn(txn(vec![created_at(&account(0), 0)], puts)).await.is_ok() {
            return;
        }
        clients.think(random, THINK_MS_MAX).await;
    }
}

async fn transfer(kv: &GrpcKv, from: String, to: String, amount: i64) -> (Call, Result<Ending, KvError>) {
    let keys = [from.clone(), to.clone()];
    let told = |revision| Call::Transfer { from: from.clone(), to: to.clone(), amount, revision };
    let Ok((found, _)) = read_all(kv, &keys).await else { return (told(0), Ok(Ending::Failed)) };
    let balances: Vec<(i64, i64)> =
        found.iter().flatten().filter_map(|kv| Some((text(&kv.value).parse().ok()?, kv.mod_revision))).collect();
    let [(from_has, from_at), (to_has, to_at)] = balances[..] else { return (told(0), Ok(Ending::Failed)) };
    if from_has < amount {
        return (told(0), Ok(Ending::Failed));
    }
    let compares = vec![modified_at(&from, from_at), modified_at(&to, to_at)];
    let writes = [(&from, from_has - amount), (&to, to_has + amount)];
    let writes = writes.map(|(key, balance)| op(Request::RequestPut(put(key, &balance.to_string())))).to_vec();
    match kv.txn(txn(compares, writes)).await {
        Ok(answer) if answer.succeeded => (told(revision(answer.header)), Ok(Ending::Ok)),
        Ok(_) => (told(0), Ok(Ending::Failed)),
        Err(error) => (told(0), Err(error)),
    }
}

async fn read(kv: &GrpcKv) -> (Call, Result<Ending, KvError>) {
    match kv.range(prefix(PREFIX)).await {
        Ok(answer) => {
            let balances: BTreeMap<String, i64> =
                answer.kvs.iter().filter_map(|kv| Some((text(&kv.key), text(&kv.value).parse().ok()?))).collect();
            (Call::Read { balances, revision: revision(answer.header) }, Ok(Ending::Ok))
        }
        Err(_) => (Call::Read { balances: BTreeMap::new(), revision: 0 }, Ok(Ending::Failed)),
    }
}
