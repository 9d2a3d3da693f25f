//! Registers: read, write, compare-and-set, delete. (1) durability, (2) linearizability, (3) revisions.

use std::sync::{Arc, Mutex};

use keelstone_checkers::{
    durability, linearizability, Call, Ending, Event, History, Operation, Outcome, RegisterClient, Violation,
};
use keelstone_env::Random;
use keelstone_etcd_api::pb;
use keelstone_mvcc::Op;
use keelstone_world::SeededRandom;
use tokio::task::JoinHandle;

use super::{get, guarded, put, text, think, write, Load, Workload};
use crate::cluster::{moment_us, CallError, Client};

const CLIENTS: u32 = 4;
const KEYS: u64 = 4;
const THINK_MS_MAX: u64 = 60;

#[derive(Default)]
pub struct Registers {
    history: Arc<Mutex<History>>,
}

impl Workload for Registers {
    fn start(&self, load: &Load) -> Vec<JoinHandle<()>> {
        let start = |id| {
            let random = load.random(&format!("register {id}"));
            tokio::spawn(run(id, load.client(u64::from(id)), random, self.history.clone(), load.clone()))
        };
        (0..CLIENTS).map(start).collect()
    }

    fn check(&self, log: &[Event]) -> Result<(), Violation> {
        let history = self.history.lock().expect("no panic while locked").clone();
        linearizability::check(&history)?;
        let registers: Vec<Event> = log.iter().filter(|event| event.key.starts_with("register/")).cloned().collect();
        durability::check(&history, &registers)
    }
}

async fn run(id: u32, client: Client, random: SeededRandom, history: Arc<Mutex<History>>, load: Load) {
    let mut registers = RegisterClient::new(id, (0..KEYS).map(|key| format!("register/{key}")));
    while load.goes_on() {
        think(&random, THINK_MS_MAX).await;
        let call = registers.next_call(|bound| random.below(bound));
        let start_us = moment_us();
        let outcome = carry_out(&client, &call).await.unwrap_or_else(judge);
        let end_us = moment_us();
        registers.learn(&call, &outcome);
        let ending = outcome.ending();
        let operation = Operation { client: id, start_us, end_us, call, outcome };
        load.ended(&ending, &format!("{operation:?}"));
        history.lock().expect("no panic while locked").operations.push(operation);
        // A client that was not served asks another member.
        if ending != Ending::Ok {
            client.go_on();
        }
    }
}

fn judge(error: CallError) -> Outcome {
    match error.unknown {
        true => Outcome::Unknown { error: error.text },
        false => Outcome::Failed { error: error.text },
    }
}

async fn carry_out(client: &Client, call: &Call) -> Result<Outcome, CallError> {
    match call {
        Call::Read { key } => {
            let answer = client.range(get(key)).await?;
            let found = answer.kvs.first();
            Ok(Outcome::Read {
                value: found.map(|kv| text(&kv.value)),
                mod_revision: found.map_or(0, |kv| kv.mod_revision),
                revision: answer.header.map_or(0, |header| header.revision),
            })
        }
        Call::Write { key, value } => {
            let (revision, _) = write(client, Op::Put(put(key, value))).await?;
            Ok(Outcome::Written { revision })
        }
        Call::CompareAndSet { key, expected, value } => {
            let (revision, done) = write(client, guarded(&[(key, *expected)], vec![put(key, value)])).await?;
            Ok(if done { Outcome::Written { revision } } else { Outcome::Refused { revision } })
        }
        Call::Delete { key } => {
            let request = pb::DeleteRangeRequest { key: key.clone().into(), ..Default::default() };
            let (revision, _) = write(client, Op::DeleteRange(request)).await?;
            Ok(Outcome::Written { revision })
        }
    }
}
