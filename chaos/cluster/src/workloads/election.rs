//! Candidates that elect a leader by a Lease, by the rules of client-go: a holder acts until its last renewal is older
//! than the lease is long; another takes over when it has seen no renewal for so long.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::Method;
use keelstone_chaos_bed::Outcome;
use keelstone_chaos_store::{
    workloads::{typed, Actor, Workload},
    Class, Cluster, Line,
};
use keelstone_checkers::{
    leadership::{check, Acting},
    Event, Violation,
};
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::make_namespace;
use crate::{
    api::{class, revision, Api},
    http_client::Sent,
};

const NAMESPACE: &str = "election";
const LEASE: &str = "leader";
const LEASE_TIME: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Elections {
    api: Arc<Api>,
    candidates: Mutex<BTreeMap<u32, Candidate>>,
}

/// What a candidate remembers between its turns.
#[derive(Clone, Debug)]
struct Candidate {
    /// The revision of the lease that it saw last, and when it saw it first.
    seen: Option<(i64, Instant)>,
    /// It does not renew for so many turns: it hands over.
    rests: u32,
}

/// It acted, as it may believe, from the answer of a renewal until that renewal's lease ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Renewed {
    holder: String,
    start_us: u64,
    end_us: u64,
}

fn collection() -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases")
}

impl Elections {
    pub fn new(api: Arc<Api>) -> Self {
        Self { api, candidates: Mutex::default() }
    }

    fn candidates(&self) -> MutexGuard<'_, BTreeMap<u32, Candidate>> {
        self.candidates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this candidate may write the lease that it has just read at `revision`.
    fn may_write(&self, actor: &mut Actor, holder: &str, own: &str, revision: i64) -> bool {
        let rest = actor.rng.random_bool(0.05);
        let mut all = self.candidates();
        let candidate = all.entry(actor.number).or_insert(Candidate { seen: None, rests: 0 });
        if candidate.seen.is_none_or(|(known, _)| known != revision) {
            candidate.seen = Some((revision, Instant::now()));
        }
        if holder == own {
            candidate.rests = if rest { 30 } else { candidate.rests.saturating_sub(1) };
            return candidate.rests == 0;
        }
        candidate.rests = candidate.rests.saturating_sub(1);
        holder.is_empty() || candidate.seen.is_some_and(|(_, since)| since.elapsed() > LEASE_TIME)
    }
}

#[async_trait]
impl Workload for Elections {
    fn name(&self) -> &'static str {
        "election"
    }

    async fn prepare(&self, _cluster: &Cluster) -> Outcome<()> {
        make_namespace(&self.api, NAMESPACE).await
    }

    async fn turn(&self, actor: &mut Actor) {
        let own = format!("candidate-{}", actor.number);
        let path = format!("{}/{LEASE}", collection());
        let sent = self.api.send(actor, Method::GET, &path, None).await;
        let (method, path, at, holder) = match sent {
            Sent::Answer { code: 200, body } => {
                let holder = body["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
                (Method::PUT, path, revision(&body), holder)
            }
            Sent::Answer { code: 404, .. } => (Method::POST, collection(), 0, String::new()),
            _ => return,
        };
        if !self.may_write(actor, &holder, &own, at) {
            return;
        }
        // The number of the turn makes every renewal a change.
        let seconds = i32::try_from(LEASE_TIME.as_secs()).unwrap_or(2);
        let turn = i32::try_from(actor.turn).unwrap_or(i32::MAX);
        let mut lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE},
            "spec": {"holderIdentity": own, "leaseDurationSeconds": seconds, "leaseTransitions": turn},
        });
        if at > 0 {
            lease["metadata"]["resourceVersion"] = at.to_string().into();
        }
        let start_us = actor.now_us();
        let sent = self.api.send(actor, method, &path, Some(&lease)).await;
        let class = class(&sent);
        let lease_us = u64::try_from(LEASE_TIME.as_micros()).unwrap_or(0);
        let renewed = Renewed { holder: own, start_us: actor.now_us(), end_us: start_us + lease_us };
        actor.record(start_us, "renew", class, true, &renewed);
    }

    fn check(&self, lines: &[&Line], _log: &[Event]) -> Result<(), Violation> {
        let renewals: Vec<&Line> = lines.iter().copied().filter(|l| l.class == Class::Ok).collect();
        let acting: Vec<Acting> = typed::<Renewed>(&renewals, &["renew"])?
            .into_iter()
            .filter(|r| r.start_us < r.end_us)
            .map(|r| Acting { lease: LEASE.into(), holder: r.holder, start_us: r.start_us, end_us: r.end_us })
            .collect();
        check(&acting)
    }
}
