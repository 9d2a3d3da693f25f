//! Lease sessions: a key on a lease that is kept alive for a while, looked at, and then revoked or left to end.

use std::time::Duration;

use async_trait::async_trait;
use keelstone_checkers::{
    lease::{check, Session, Step},
    Event, Violation,
};
use keelstone_etcd_api::pb;
use rand::Rng;

use super::{typed, Actor, Workload};
use crate::{
    etcd_client::{get, put, Reply},
    record::{Class, Line},
};

const TTL_S: i64 = 3;
const STEPS_MAX: u32 = 8;

#[derive(Debug)]
pub struct Leases;

#[async_trait]
impl Workload for Leases {
    fn name(&self) -> &'static str {
        "lease"
    }

    /// A turn takes seconds.
    fn acknowledged_min(&self) -> usize {
        5
    }

    async fn turn(&self, actor: &mut Actor) {
        let key = format!("lease/{:x}", actor.unique());
        let start_us = actor.now_us();
        let granted = match actor.client.grant(TTL_S).await {
            Reply::Ok(granted) => granted,
            other => return actor.record(start_us, "grant", other.class(), false, &key),
        };
        let ttl_us = u64::try_from(granted.ttl).unwrap_or(0) * 1_000_000;
        let mut session =
            Session { client: actor.number, id: granted.id, ttl_us, steps: vec![Step::Alive { start_us }] };
        let own = pb::PutRequest { lease: granted.id, ..put(&key, "held") };
        if let Reply::Ok(_) = actor.client.put(own).await {
            session.steps.push(Step::Put);
        }
        for _ in 0..actor.rng.random_range(1..=STEPS_MAX) {
            live(actor, &mut session, &key).await;
            tokio::time::sleep(Duration::from_millis(actor.rng.random_range(100..900))).await;
        }
        if actor.rng.random_bool(0.5) {
            revoke(actor, &mut session).await;
        }
        look(actor, &mut session, &key).await;
        // No acknowledged write at its end: it does not count for availability.
        actor.record(start_us, "session", Class::Ok, false, &session);
    }

    fn check(&self, lines: &[&Line], _log: &[Event]) -> Result<(), Violation> {
        check(&typed::<Session>(lines, &["session"])?)
    }
}

/// A keep-alive, most of the time, and a look.
async fn live(actor: &mut Actor, session: &mut Session, key: &str) {
    if actor.rng.random_bool(0.8) {
        let start_us = actor.now_us();
        match actor.client.keep_alive(session.id).await {
            Reply::Ok(ttl) if ttl > 0 => session.steps.push(Step::Alive { start_us }),
            Reply::Ok(_) => session.steps.push(Step::Gone { end_us: actor.now_us() }),
            _ => {}
        }
    }
    look(actor, session, key).await;
}

async fn look(actor: &mut Actor, session: &mut Session, key: &str) {
    let start_us = actor.now_us();
    if let Reply::Ok(answer) = actor.client.range(get(key)).await {
        let end_us = actor.now_us();
        session.steps.push(Step::Read { start_us, end_us, present: !answer.kvs.is_empty() });
    }
}

async fn revoke(actor: &mut Actor, session: &mut Session) {
    let start_us = actor.now_us();
    let step = match actor.client.revoke(session.id).await {
        Reply::Ok(_) => Step::Revoked { start_us, end_us: actor.now_us() },
        // A lease that is not found may have ended, which the steps before and after tell.
        _ => Step::MaybeRevoked { start_us },
    };
    session.steps.push(step);
}
