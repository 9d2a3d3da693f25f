//! A lock held by leases, whose holders write to a resource that is fenced by their tokens. (6)

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use keelstone_checkers::{
    lease::Step,
    lock::{self, Session},
    Ending, Violation,
};
use keelstone_env::Random;
use keelstone_etcd_api::pb::{self, request_op::Request};
use keelstone_store_client::{EtcdKv, GrpcKv};
use keelstone_world::SeededRandom;
use tokio::task::JoinHandle;

use super::{
    calls::{created_at, ending, op, put, revision, txn},
    leases::{grant, keep_alive},
    Clients, Workload,
};
use crate::clock::moment_us;

const CLIENTS: u32 = 3;
const LOCK: &str = "lock/holder";
const RESOURCE: &str = "lock/resource";
const THINK_MS_MAX: u64 = 300;
/// Writes of one holder at most.
const WRITES_MAX: u64 = 5;

#[derive(Default)]
pub struct Locks {
    sessions: Arc<Mutex<Vec<Session>>>,
}

impl Workload for Locks {
    fn name(&self) -> &'static str {
        "locks"
    }

    fn start(&self, clients: &Clients) -> Vec<JoinHandle<()>> {
        let start = |client| {
            let random = clients.random(&format!("lock {client}"));
            tokio::spawn(run(client, clients.kv(u64::from(client)), random, self.sessions.clone(), clients.clone()))
        };
        (0..CLIENTS).map(start).collect()
    }

    fn check(&self) -> Result<(), Violation> {
        lock::check(&self.sessions.lock().expect("no panic while locked"))
    }
}

async fn run(client: u32, kv: GrpcKv, random: SeededRandom, all: Arc<Mutex<Vec<Session>>>, clients: Clients) {
    while clients.effort.goes_on() {
        clients.think(&random, THINK_MS_MAX).await;
        let Some(lease) = grant(client, &kv, &clients).await else { continue };
        let alive_us = match lease.steps.first() {
            Some(Step::Alive { start_us }) => *start_us,
            _ => continue,
        };
        let Some(mut session) = acquire(client, &kv, lease.id, &clients, &random).await else { continue };
        session.until_us = alive_us + lease.ttl_us;
        hold(&kv, &random, &clients, (lease.id, lease.ttl_us), &mut session).await;
        all.lock().expect("no panic while locked").push(session);
    }
}

/// Tries a few times; without luck the lease is left to end.
async fn acquire(client: u32, kv: &GrpcKv, lease: i64, clients: &Clients, random: &SeededRandom) -> Option<Session> {
    for _ in 0..4 {
        let take = op(Request::RequestPut(pb::PutRequest { lease, ..put(LOCK, &format!("{client} {lease}")) }));
        let answer = kv.txn(txn(vec![created_at(LOCK, 0)], vec![take])).await;
        clients.effort.count_ending(&answer.as_ref().map_or_else(ending, |_| Ending::Ok), &format!("lock: {answer:?}"));
        match answer {
            Ok(answer) if answer.succeeded => {
                let (token, from_us) = (revision(answer.header), moment_us());
                return Some(Session { client, lock: LOCK.into(), token, from_us, until_us: 0, writes: Vec::new() });
            }
            Ok(_) => clients.think(random, THINK_MS_MAX).await,
            // Perhaps it holds the lock and will never know.
            Err(_) => return None,
        }
    }
    None
}

async fn hold(
    kv: &GrpcKv,
    random: &SeededRandom,
    clients: &Clients,
    (lease, ttl_us): (i64, u64),
    session: &mut Session,
) {
    for _ in 0..random.below(WRITES_MAX) {
        if !clients.effort.goes_on() {
            return;
        }
        tokio::time::sleep(Duration::from_micros(random.below(ttl_us * 2 / 3))).await;
        match keep_alive(kv, lease).await {
            Some(Step::Alive { start_us }) => session.until_us = session.until_us.max(start_us + ttl_us),
            Some(_) => return,
            None => {}
        }
        let write = op(Request::RequestPut(put(RESOURCE, &session.token.to_string())));
        let answer = kv.txn(txn(vec![created_at(LOCK, session.token)], vec![write])).await;
        clients
            .effort
            .count_ending(&answer.as_ref().map_or_else(ending, |_| Ending::Ok), &format!("fenced: {answer:?}"));
        if let Ok(answer) = answer {
            if !answer.succeeded {
                return;
            }
            session.writes.push(revision(answer.header));
        }
    }
    // Lets go: from here on nobody may count on it.
    session.until_us = session.until_us.min(moment_us());
    let release = op(Request::RequestDeleteRange(pb::DeleteRangeRequest { key: LOCK.into(), ..Default::default() }));
    let answer = kv.txn(txn(vec![created_at(LOCK, session.token)], vec![release])).await;
    clients.effort.count_ending(&answer.as_ref().map_or_else(ending, |_| Ending::Ok), &format!("released: {answer:?}"));
}
