//! Elements are added one by one, and all of them are read. (1), (2)

use std::sync::{Arc, Mutex};

use keelstone_checkers::{
    set::{self, Call, Operation},
    Ending, Violation,
};
use keelstone_store_client::{EtcdKv, GrpcKv};
use keelstone_world::SeededRandom;
use tokio::task::JoinHandle;

use super::{
    calls::{ending, prefix, put, revision, text},
    Clients, Workload,
};
use crate::clock::moment_us;

const CLIENTS: u32 = 2;
const PREFIX: &str = "set/";
const THINK_MS_MAX: u64 = 300;

#[derive(Default)]
pub struct Sets {
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl Workload for Sets {
    fn name(&self) -> &'static str {
        "sets"
    }

    fn start(&self, clients: &Clients) -> Vec<JoinHandle<()>> {
        let start = |client| {
            let random = clients.random(&format!("set {client}"));
            tokio::spawn(run(client, clients.kv(u64::from(client)), random, self.operations.clone(), clients.clone()))
        };
        (0..CLIENTS).map(start).collect()
    }

    fn check(&self) -> Result<(), Violation> {
        set::check(&self.operations.lock().expect("no panic while locked"))
    }
}

async fn run(client: u32, kv: GrpcKv, random: SeededRandom, all: Arc<Mutex<Vec<Operation>>>, clients: Clients) {
    let mut added = 0;
    while clients.effort.goes_on() {
        clients.think(&random, THINK_MS_MAX).await;
        let start_us = moment_us();
        let (call, ending) = if random.chance(70) {
            added += 1;
            let element = u64::from(client) * 1_000_000 + added;
            let answer = kv.put(put(&format!("{PREFIX}{element}"), "")).await;
            (Call::Add { element }, answer.map_or_else(|error| ending(&error), |_| Ending::Ok))
        } else {
            match kv.range(prefix(PREFIX)).await {
                Ok(answer) => {
                    let keys = answer.kvs.iter().map(|kv| text(&kv.key));
                    let elements = keys.filter_map(|key| key.strip_prefix(PREFIX)?.parse().ok()).collect();
                    (Call::Read { elements, revision: revision(answer.header) }, Ending::Ok)
                }
                Err(_) => (Call::Read { elements: Vec::new(), revision: 0 }, Ending::Failed),
            }
        };
        let operation = Operation { client, start_us, end_us: moment_us(), call, ending };
        clients.effort.count_ending(&operation.ending, &format!("{operation:?}"));
        all.lock().expect("no panic while locked").push(operation);
    }
}
