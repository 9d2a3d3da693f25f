//! Locks: a key that is created with a lease is held; its create revision is the fencing token, and the fenced resource
//! takes a write only while the lock has that token.

use async_trait::async_trait;
use keelstone_checkers::{
    lock::{check, Session},
    Event, Violation,
};
use keelstone_etcd_api::pb;
use rand::Rng;

use super::{typed, Actor, Workload};
use crate::{
    etcd_client::{op, put, revision, Reply},
    record::{Class, Line},
};

const LOCKS: u32 = 2;
const TTL_S: i64 = 4;
const STEPS_MAX: u32 = 8;
const STEP_PAUSE: std::time::Duration = std::time::Duration::from_millis(300);

#[derive(Debug)]
pub struct Locks;

#[async_trait]
impl Workload for Locks {
    fn name(&self) -> &'static str {
        "lock"
    }

    /// A turn takes seconds.
    fn acknowledged_min(&self) -> usize {
        3
    }

    /// A whole tenure: grant, acquire, keep alive and write, release.
    async fn turn(&self, actor: &mut Actor) {
        let lock = format!("lock/{}", actor.rng.random_range(0..LOCKS));
        let start_us = actor.now_us();
        let Reply::Ok(lease) = actor.client.grant(TTL_S).await else {
            return actor.record(start_us, "acquire", Class::Failed, false, &lock);
        };
        let ttl_us = u64::try_from(lease.ttl).unwrap_or(0) * 1_000_000;
        let acquired = acquire(actor, &lock, lease.id).await;
        let Reply::Ok(token) = acquired else {
            // Of no consequence: an unknown acquisition ends with its lease.
            let _ = actor.client.revoke(lease.id).await;
            return actor.record(start_us, "acquire", acquired.class(), false, &lock);
        };
        let from_us = actor.now_us();
        let mut session =
            Session { client: actor.number, lock, token, from_us, until_us: start_us + ttl_us, writes: Vec::new() };
        for _ in 0..actor.rng.random_range(1..=STEPS_MAX) {
            let asked_us = actor.now_us();
            match actor.client.keep_alive(lease.id).await {
                Reply::Ok(ttl) if ttl > 0 => session.until_us = asked_us + ttl_us,
                Reply::Ok(_) => break,
                _ => {}
            }
            if !write(actor, &mut session).await {
                break;
            }
            tokio::time::sleep(STEP_PAUSE).await;
        }
        session.until_us = session.until_us.min(actor.now_us());
        let _ = actor.client.revoke(lease.id).await;
        // No acknowledged write at its end: it does not count for availability.
        actor.record(start_us, "tenure", Class::Ok, false, &session);
    }

    fn check(&self, lines: &[&Line], _log: &[Event]) -> Result<(), Violation> {
        check(&typed::<Session>(lines, &["tenure"])?)
    }
}

/// The token.
async fn acquire(actor: &mut Actor, lock: &str, lease: i64) -> Reply<i64> {
    let own = pb::PutRequest { lease, ..put(lock, actor.number.to_string()) };
    let request = pb::TxnRequest { compare: vec![created(lock, 0)], success: vec![op::put(own)], failure: vec![] };
    match actor.client.txn(request).await {
        Reply::Ok(answer) if !answer.succeeded => Reply::Failed("another holds it".into()),
        other => other.map(|answer| revision(&answer.header)),
    }
}

/// Writes to the fenced resource; false when the fence refused.
async fn write(actor: &mut Actor, session: &mut Session) -> bool {
    let resource = format!("lock-resource/{}", session.lock);
    let request = pb::TxnRequest {
        compare: vec![created(&session.lock, session.token)],
        success: vec![op::put(put(&resource, session.token.to_string()))],
        failure: vec![],
    };
    match actor.client.txn(request).await {
        Reply::Ok(answer) if answer.succeeded => {
            session.writes.push(revision(&answer.header));
            true
        }
        Reply::Ok(_) => false,
        _ => true,
    }
}

fn created(key: &str, revision: i64) -> pb::Compare {
    pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Create.into(),
        key: key.to_owned().into(),
        target_union: Some(pb::compare::TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}
