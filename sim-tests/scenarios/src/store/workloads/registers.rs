//! Registers: read, write, compare-and-set, delete. (1) durability, (2) linearizability, (3) revisions.

use std::sync::{Arc, Mutex};

use keelstone_checkers::{
    durability, linearizability, Call, Event, History, Operation, Outcome, RegisterClient, Violation,
};
use keelstone_env::Random;
use keelstone_etcd_api::pb;
use keelstone_store_client::{EtcdKv, GrpcKv, KvError};
use keelstone_world::SeededRandom;
use tokio::task::JoinHandle;

use super::{
    calls::{delete, get, modified_at, op, put, revision, text, txn},
    judge, Clients, Workload, LOG_FIRST,
};
use crate::clock::moment_us;

const CLIENTS: u32 = 4;
const KEYS: u64 = 8;
const THINK_MS_MAX: u64 = 120;

#[derive(Default)]
pub struct Registers {
    history: Arc<Mutex<History>>,
}

impl Registers {
    fn history(&self) -> History {
        self.history.lock().expect("no panic while locked").clone()
    }
}

impl Workload for Registers {
    fn name(&self) -> &'static str {
        "registers"
    }

    fn start(&self, clients: &Clients) -> Vec<JoinHandle<()>> {
        let start = |id| {
            let random = clients.random(&format!("client {id}"));
            let kv = clients.kv(random.below(clients.names.len() as u64));
            tokio::spawn(run(id, kv, random, self.history.clone(), clients.clone()))
        };
        (0..CLIENTS).map(start).collect()
    }

    fn check(&self) -> Result<(), Violation> {
        linearizability::check(&self.history())
    }

    fn check_log(&self, log: &[Event]) -> Result<(), Violation> {
        durability::check(&self.history(), log)
    }
}

/// One client: operations one after the other until the run has enough of them.
async fn run(id: u32, kv: GrpcKv, random: SeededRandom, history: Arc<Mutex<History>>, clients: Clients) {
    let mut registers = RegisterClient::new(id, (0..KEYS).map(|key| format!("{LOG_FIRST}{key}")));
    while clients.effort.goes_on() {
        clients.think(&random, THINK_MS_MAX).await;
        let call = registers.next_call(|bound| random.below(bound));
        let start_us = moment_us();
        let outcome = carry_out(&kv, &call).await.unwrap_or_else(|error| judge(&error));
        let end_us = moment_us();
        registers.learn(&call, &outcome);
        let operation = Operation { client: id, start_us, end_us, call, outcome };
        clients.effort.count(&operation.outcome, &format!("{operation:?}"));
        history.lock().expect("no panic while locked").operations.push(operation);
    }
}

async fn carry_out(kv: &GrpcKv, call: &Call) -> Result<Outcome, KvError> {
    match call {
        Call::Read { key } => {
            let answer = kv.range(get(key)).await?;
            let found = answer.kvs.first();
            Ok(Outcome::Read {
                value: found.map(|kv| text(&kv.value)),
                mod_revision: found.map_or(0, |kv| kv.mod_revision),
                revision: revision(answer.header),
            })
        }
        Call::Write { key, value } => {
            let answer = kv.put(put(key, value)).await?;
            Ok(Outcome::Written { revision: revision(answer.header) })
        }
        Call::CompareAndSet { key, expected, value } => {
            let write = op(pb::request_op::Request::RequestPut(put(key, value)));
            let request = txn(vec![modified_at(key, *expected)], vec![write]);
            let answer = kv.txn(request).await?;
            let revision = revision(answer.header);
            Ok(if answer.succeeded { Outcome::Written { revision } } else { Outcome::Refused { revision } })
        }
        Call::Delete { key } => {
            let answer = kv.delete_range(delete(key)).await?;
            Ok(Outcome::Written { revision: revision(answer.header) })
        }
    }
}
