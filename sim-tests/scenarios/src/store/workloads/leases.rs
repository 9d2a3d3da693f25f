//! Leases with a key each: granted, kept alive, left to end, revoked. (6) A lease never ends before its time as
//! its holder can know it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use keelstone_checkers::{
    lease::{self, Session, Step},
    Ending, Violation,
};
use keelstone_env::Random;
use keelstone_etcd_api::pb;
use keelstone_store_client::{EtcdKv, GrpcKv};
use keelstone_world::SeededRandom;
use tokio::task::JoinHandle;

use super::{
    calls::{ending, get, put},
    Clients, Workload,
};
use crate::clock::moment_us;

const CLIENTS: u32 = 2;
/// Holders that keep their lease alive in time, as long as they can: one begins at each member, so that some go on
/// through the others when the leader is cut off.
const KEEPERS: u32 = 3;
/// Steps of one lease at most.
const STEPS_MAX: u64 = 12;
/// The store's timers may be fast by 2 %, so a holder may count on so much of its time.
const SURE_PERCENT: u64 = 96;

#[derive(Default)]
pub struct Leases {
    sessions: Arc<Mutex<Vec<Session>>>,
}

impl Workload for Leases {
    fn name(&self) -> &'static str {
        "leases"
    }

    fn start(&self, clients: &Clients) -> Vec<JoinHandle<()>> {
        let start = |client| {
            let random = clients.random(&format!("lease {client}"));
            tokio::spawn(run(client, clients.kv(u64::from(client)), random, self.sessions.clone(), clients.clone()))
        };
        let keep = |client: u32| {
            let random = clients.random(&format!("keeper {client}"));
            let id = CLIENTS + client;
            tokio::spawn(keep(id, clients.kv(u64::from(id)), random, self.sessions.clone(), clients.clone()))
        };
        (0..CLIENTS).map(start).chain((0..KEEPERS).map(keep)).collect()
    }

    fn check(&self) -> Result<(), Violation> {
        lease::check(&self.sessions.lock().expect("no panic while locked"))
    }
}

/// A lease that was granted: its session begins.
pub async fn grant(client: u32, kv: &GrpcKv, clients: &Clients) -> Option<Session> {
    let start_us = moment_us();
    let ttl = clients.plan.knobs.lease_ttl_s as i64;
    let answer = kv.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await;
    let ended = answer.as_ref().map_or_else(ending, |_| Ending::Ok);
    clients.effort.count_ending(&ended, &format!("lease of {client}: {answer:?}"));
    let answer = answer.ok()?;
    let ttl_us = answer.ttl.unsigned_abs() * 10_000 * SURE_PERCENT;
    Some(Session { client, id: answer.id, ttl_us, steps: vec![Step::Alive { start_us }] })
}

/// One keep-alive, as a step; `None` if nothing is known.
pub async fn keep_alive(kv: &GrpcKv, id: i64) -> Option<Step> {
    let start_us = moment_us();
    match kv.lease_keep_alive_once(id).await {
        Ok(answer) if answer.ttl > 0 => Some(Step::Alive { start_us }),
        Ok(_) => Some(Step::Gone { end_us: moment_us() }),
        Err(_) => None,
    }
}

async fn run(client: u32, kv: GrpcKv, random: SeededRandom, all: Arc<Mutex<Vec<Session>>>, clients: Clients) {
    let mut keys = 0;
    while clients.effort.goes_on() {
        clients.think(&random, 500).await;
        let Some(mut session) = grant(client, &kv, &clients).await else { continue };
        keys += 1;
        live(&kv, &random, &clients, &format!("lease/{client}-{keys}"), &mut session).await;
        all.lock().expect("no panic while locked").push(session);
    }
}

/// Holds a lease as long as it can: kept alive three times in its time, with a look at its key each time.
async fn keep(client: u32, kv: GrpcKv, random: SeededRandom, all: Arc<Mutex<Vec<Session>>>, clients: Clients) {
    let mut keys = 0;
    while clients.effort.goes_on() {
        clients.think(&random, 300).await;
        let Some(mut session) = grant(client, &kv, &clients).await else { continue };
        keys += 1;
        let key = format!("lease/{client}-{keys}");
        put_key(&kv, &clients, &key, &mut session).await;
        while clients.effort.goes_on() {
            tokio::time::sleep(Duration::from_micros(session.ttl_us / 3)).await;
            let alive = keep_alive(&kv, session.id).await;
            let over = matches!(alive, Some(Step::Gone { .. }));
            let step = alive.as_ref().map_or(Ending::Unknown, |_| Ending::Ok);
            clients.effort.count_ending(&step, &format!("{key}: {alive:?}"));
            session.steps.extend(alive);
            if over {
                break;
            }
            session.steps.extend(look(&kv, &key).await);
        }
        all.lock().expect("no panic while locked").push(session);
    }
}

async fn put_key(kv: &GrpcKv, clients: &Clients, key: &str, session: &mut Session) {
    let keyed = kv.put(pb::PutRequest { lease: session.id, ..put(key, "held") }).await;
    clients.effort.count_ending(&keyed.as_ref().map_or_else(ending, |_| Ending::Ok), &format!("{key}: {keyed:?}"));
    if keyed.is_ok() {
        session.steps.push(Step::Put);
    }
}

/// Whether the key is there; `None` if nothing is known.
async fn look(kv: &GrpcKv, key: &str) -> Option<Step> {
    let start_us = moment_us();
    let answer = kv.range(get(key)).await.ok()?;
    Some(Step::Read { start_us, end_us: moment_us(), present: !answer.kvs.is_empty() })
}

/// Uses the lease until it is gone or enough was done with it.
async fn live(kv: &GrpcKv, random: &SeededRandom, clients: &Clients, key: &str, session: &mut Session) {
    let (id, ttl_ms) = (session.id, session.ttl_us / 1_000);
    put_key(kv, clients, key, session).await;
    for _ in 0..random.below(STEPS_MAX) {
        if !clients.effort.goes_on() {
            return;
        }
        // Mostly in time, sometimes too late.
        tokio::time::sleep(Duration::from_millis(random.below(ttl_ms * 4 / 3))).await;
        let start_us = moment_us();
        let step = match random.below(10) {
            0..=5 => keep_alive(kv, id).await,
            6..=8 => look(kv, key).await,
            _ => Some(match kv.lease_revoke(pb::LeaseRevokeRequest { id }).await {
                Ok(_) => Step::Revoked { start_us, end_us: moment_us() },
                Err(_) => Step::MaybeRevoked { start_us },
            }),
        };
        clients
            .effort
            .count_ending(&step.as_ref().map_or(Ending::Unknown, |_| Ending::Ok), &format!("{key}: {step:?}"));
        if let Some(step) = step {
            let over = matches!(step, Step::Gone { .. } | Step::MaybeRevoked { .. });
            session.steps.push(step);
            if over {
                return;
            }
        }
    }
}
