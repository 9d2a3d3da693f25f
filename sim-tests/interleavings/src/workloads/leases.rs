//! Leases with a key each: granted, kept alive, left to end, revoked. (6) A lease never ends before its time as its
//! holder can know it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use keelstone_checkers::{
    lease::{self, Session, Step},
    Ending, Event, Violation,
};
use keelstone_env::Random;
use keelstone_etcd_api::pb;
use keelstone_mvcc::{Op, Response};
use keelstone_world::SeededRandom;
use tokio::{task::JoinHandle, time::sleep};

use super::{get, put, think, write, Load, Workload};
use crate::{
    cluster::{moment_us, Client},
    constants::LEASE_TTL_S,
};

const CLIENTS: u32 = 4;
const THINK_MS_MAX: u64 = 200;
/// Steps of one lease at most.
const STEPS_MAX: u64 = 12;

#[derive(Default)]
pub struct Leases {
    sessions: Arc<Mutex<Vec<Session>>>,
}

impl Workload for Leases {
    fn start(&self, load: &Load) -> Vec<JoinHandle<()>> {
        let start = |id| {
            let random = load.random(&format!("lease {id}"));
            tokio::spawn(run(id, load.client(u64::from(id)), random, self.sessions.clone(), load.clone()))
        };
        (0..CLIENTS).map(start).collect()
    }

    fn check(&self, _: &[Event]) -> Result<(), Violation> {
        lease::check(&self.sessions.lock().expect("no panic while locked"))
    }
}

async fn run(client_id: u32, client: Client, random: SeededRandom, all: Arc<Mutex<Vec<Session>>>, load: Load) {
    let mut granted = 0;
    while load.goes_on() {
        think(&random, THINK_MS_MAX).await;
        granted += 1;
        let (id, start_us) = (i64::from(client_id) * 1_000_000 + granted, moment_us());
        let answer = client.propose(Op::LeaseGrant(pb::LeaseGrantRequest { ttl: LEASE_TTL_S, id })).await;
        load.ended(&answer.as_ref().map_or_else(|e| e.ending(), |_| Ending::Ok), &format!("grant {id}: {answer:?}"));
        let Ok(Response::LeaseGrant(answer)) = answer else {
            client.go_on();
            continue;
        };
        let steps = vec![Step::Alive { start_us }];
        let ttl_us = answer.ttl.unsigned_abs() * 1_000_000;
        let mut session = Session { client: client_id, id, ttl_us, steps };
        live(&client, &random, &load, &mut session).await;
        all.lock().expect("no panic while locked").push(session);
    }
}

/// Uses the lease until it is gone or enough was done with it.
async fn live(client: &Client, random: &SeededRandom, load: &Load, session: &mut Session) {
    let (id, key) = (session.id, format!("lease/{}", session.id));
    let keyed = write(client, Op::Put(pb::PutRequest { lease: id, ..put(&key, "held") })).await;
    load.ended(&keyed.as_ref().map_or_else(|e| e.ending(), |_| Ending::Ok), &format!("{key}: {keyed:?}"));
    if keyed.is_ok() {
        session.steps.push(Step::Put);
    }
    for _ in 0..random.below(STEPS_MAX) {
        if !load.goes_on() {
            return;
        }
        // Mostly in time, sometimes too late.
        sleep(Duration::from_micros(random.below(session.ttl_us * 4 / 3))).await;
        let start_us = moment_us();
        let step = match random.below(10) {
            0..=5 => match client.keep_alive(id).await {
                Ok(0) => Some(Step::Gone { end_us: moment_us() }),
                Ok(_) => Some(Step::Alive { start_us }),
                Err(_) => None,
            },
            6..=8 => client.range(get(&key)).await.ok().map(|found| Step::Read {
                start_us,
                end_us: moment_us(),
                present: !found.kvs.is_empty(),
            }),
            _ => Some(match client.propose(Op::LeaseRevoke(pb::LeaseRevokeRequest { id })).await {
                Ok(_) => Step::Revoked { start_us, end_us: moment_us() },
                Err(_) => Step::MaybeRevoked { start_us },
            }),
        };
        load.ended(&step.as_ref().map_or(Ending::Unknown, |_| Ending::Ok), &format!("{key}: {step:?}"));
        let Some(step) = step else {
            client.go_on();
            continue;
        };
        let over = matches!(step, Step::Gone { .. } | Step::MaybeRevoked { .. });
        session.steps.push(step);
        if over {
            return;
        }
    }
}
