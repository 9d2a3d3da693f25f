//! Accounts with a constant sum, and transfers between them by transactions.

use std::collections::BTreeMap;

use async_trait::async_trait;
use keelstone_chaos_bed::{Failure, Outcome};
use keelstone_checkers::{
    bank::{check, Call, Operation},
    Event, Violation,
};
use keelstone_etcd_api::pb;
use rand::Rng;

use super::{ending, typed, Actor, Workload};
use crate::{
    cluster::Cluster,
    etcd_client::{op, prefix, put, revision, text, unchanged, Reply},
    record::{Class, Line},
};

const ACCOUNTS: u32 = 5;
const START: i64 = 100;
const AMOUNT_MAX: i64 = 20;

#[derive(Debug)]
pub struct Bank;

fn account(i: u32) -> String {
    format!("bank/{i}")
}

#[async_trait]
impl Workload for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    async fn prepare(&self, cluster: &Cluster) -> Outcome<()> {
        let name = cluster.names().into_iter().next().unwrap_or_default();
        let puts = (0..ACCOUNTS).map(|i| op::put(put(&account(i), START.to_string()))).collect();
        let reply = cluster.client(&name, 0)?.txn(pb::TxnRequest { success: puts, ..Default::default() }).await;
        match reply.error() {
            None => Ok(()),
            Some(error) => Err(Failure::impossible(format!("the accounts cannot be made: {error}"))),
        }
    }

    async fn turn(&self, actor: &mut Actor) {
        let Some(accounts) = read(actor).await else { return };
        if actor.rng.random_bool(0.7) {
            transfer(actor, &accounts).await;
        }
    }

    async fn finish(&self, actor: &mut Actor) -> Outcome<()> {
        match read(actor).await {
            Some(_) => Ok(()),
            None => Err(Failure::impossible("the accounts cannot be read at the end")),
        }
    }

    fn check(&self, lines: &[&Line], _log: &[Event]) -> Result<(), Violation> {
        let start = (0..ACCOUNTS).map(|i| (account(i), START)).collect();
        check(&start, &typed::<Operation>(lines, &["read", "transfer"])?)
    }
}

/// Balances and modification revisions.
type Accounts = BTreeMap<String, (i64, i64)>;

async fn read(actor: &mut Actor) -> Option<Accounts> {
    let start_us = actor.now_us();
    let reply = actor.client.range(prefix("bank/")).await;
    let class = reply.class();
    let mut accounts = Accounts::new();
    let mut at = 0;
    if let Reply::Ok(answer) = reply {
        at = revision(&answer.header);
        // What is no number counts as nothing: the sum is then wrong.
        let balance = |value: &[u8]| text(value).parse().unwrap_or(0);
        accounts = answer.kvs.iter().map(|kv| (text(&kv.key), (balance(&kv.value), kv.mod_revision))).collect();
    }
    let balances = accounts.iter().map(|(name, (balance, _))| (name.clone(), *balance)).collect();
    record(actor, start_us, "read", class, Call::Read { balances, revision: at });
    (class == Class::Ok).then_some(accounts)
}

async fn transfer(actor: &mut Actor, accounts: &Accounts) {
    let names: Vec<&String> = accounts.keys().collect();
    let from = names[actor.rng.random_range(0..names.len())].clone();
    let to = names[actor.rng.random_range(0..names.len())].clone();
    let amount = actor.rng.random_range(1..=AMOUNT_MAX);
    let ((have, from_revision), (has, to_revision)) = (accounts[&from], accounts[&to]);
    if from == to || have < amount {
        return;
    }
    let request = pb::TxnRequest {
        compare: vec![unchanged(&from, from_revision), unchanged(&to, to_revision)],
        success: vec![op::put(put(&from, (have - amount).to_string())), op::put(put(&to, (has + amount).to_string()))],
        failure: vec![],
    };
    let start_us = actor.now_us();
    let reply = actor.client.txn(request).await;
    let (class, at) = match &reply {
        Reply::Ok(answer) if !answer.succeeded => (Class::Failed, 0),
        Reply::Ok(answer) => (Class::Ok, revision(&answer.header)),
        other => (other.class(), 0),
    };
    record(actor, start_us, "transfer", class, Call::Transfer { from, to, amount, revision: at });
}

fn record(actor: &Actor, start_us: u64, kind: &str, class: Class, call: Call) {
    let operation = Operation { client: actor.number, start_us, end_us: actor.now_us(), call, ending: ending(class) };
    actor.record(start_us, kind, class, kind == "transfer", &operation);
}
