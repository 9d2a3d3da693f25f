//! The task that revokes leases whose time is over, while this member leads.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use keelstone_env::{
    bug::{self, Bug},
    fault::{self, Point, Sight},
};
use keelstone_etcd_api::pb;
use keelstone_mvcc::{Command, LeaseExpire, Op};
use prost::Message;

use tokio::time::Instant;

use crate::{
    constants::{LEASES_LISTED_MAX, LEASE_EXPIRIES_BATCH_MAX, PAUSE_GRACE, PAUSE_NOTICED},
    core::{Core, Leader},
    outcome::Outcome,
    peer, RaftError,
};

/// How late a lease may end.
const TICK: Duration = Duration::from_millis(200);
/// The shortest rest between two full batches.
const REST_MIN: Duration = Duration::from_millis(5);
/// Pause before an expiry whose fate is unknown is proposed again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(core: Arc<Core>) {
    let mut pauses = Pauses::new(core.env.now());
    let mut rest = TICK;
    loop {
        tokio::time::sleep(rest).await;
        let expected = rest;
        rest = TICK;
        if pauses.holds(core.env.now(), expected) {
            continue;
        }
        if core.clocks.wants_list() {
            list(&core).await;
            pauses.awake(core.env.now());
        }
        let began = core.env.now();
        if core.clocks.next().is_some_and(|next| next <= began) {
            let full = expire(&core).await == LEASE_EXPIRIES_BATCH_MAX;
            pauses.awake(core.env.now());
            if full {
                rest = began.elapsed().clamp(REST_MIN, TICK);
            }
        }
    }
}

/// Gives every lease its time in the background, some at a time: their keep-alives go on meanwhile.
async fn list(core: &Core) {
    let mvcc = Arc::clone(&core.mvcc);
    let leases = core.env.offload(move || mvcc.leases()).await;
    fault::pause(Point::LeaseList).await;
    fault::sight(Sight::LeaseListed);
    for some in leases.chunks(LEASES_LISTED_MAX) {
        core.clocks.list(some);
        tokio::task::yield_now().await;
    }
}

/// Notices that this process did not run for a while. Keep-alives then wait in its sockets, which their senders
/// sent in time: they come first.
struct Pauses {
    woke: Instant,
    held_until: Option<Instant>,
}

impl Pauses {
    fn new(now: Instant) -> Self {
        Self { woke: now, held_until: None }
    }

    /// `now` is known to be no pause.
    fn awake(&mut self, now: Instant) {
        self.woke = now;
    }

    /// Whether leases must not end now, after a sleep that should have taken `expected`.
    fn holds(&mut self, now: Instant, expected: Duration) -> bool {
        let late = now.duration_since(self.woke).saturating_sub(expected);
        self.woke = now;
        if late > PAUSE_NOTICED {
            tracing::info!(late_ms = late.as_millis(), "this process did not run; leases end a little later");
            self.held_until = Some(now + PAUSE_GRACE);
        }
        self.held_until = self.held_until.filter(|until| now < *until);
        self.held_until.is_some()
    }
}

/// Proposes what is due, here and nowhere else: another leader counts for itself. Returns how many that were.
async fn expire(core: &Arc<Core>) -> usize {
    let Some((term, due)) = core.clocks.due(LEASE_EXPIRIES_BATCH_MAX) else { return 0 };
    let count = due.len();
    fault::pause(Point::LeaseExpire).await;
    let commands = due.iter().map(|id| command(term, *id)).collect();
    let mut outcomes = core.write_here(commands).await.boxed();
    let deadline = core.deadline();
    for id in due {
        match tokio::time::timeout_at(deadline, outcomes.next()).await {
            Ok(Some(Outcome::Answered(_))) => {
                fault::sight(Sight::LeaseExpired);
                core.clocks.settled(id);
            }
            _ if bug::planted(Bug::DeposedLeaderRevokes) => {
                core.env.spawn(forward_revoke(Arc::clone(core), term, id));
            }
            // Proposing it twice is harmless: the second finds nothing.
            _ => core.clocks.retry(term, id, RETRY_PAUSE),
        }
    }
    count
}

/// etcd 12528 put back: what was due here is revoked by whoever leads next, however late that is known here.
async fn forward_revoke(core: Arc<Core>, term: u64, id: i64) {
    let op = Op::LeaseRevoke(pb::LeaseRevokeRequest { id });
    let command: bytes::Bytes = Command { proposer_term: 0, op: Some(op), caller: None }.encode_to_vec().into();
    loop {
        match core.leader(core.deadline()).await {
            Ok(Leader::At(mut leader)) => {
                let call = leader.forward(peer::ForwardRequest { commands: vec![command] });
                let _ = tokio::time::timeout_at(core.deadline(), call).await;
                return;
            }
            Err(RaftError::Stopped) => return,
            // It is the leader once more, and counts anew.
            Ok(Leader::Here) if core.term() != term => return,
            Ok(Leader::Here) | Err(_) => tokio::time::sleep(TICK).await,
        }
    }
}

fn command(term: u64, id: i64) -> bytes::Bytes {
    let op = Op::LeaseExpire(LeaseExpire { id, term });
    Command { proposer_term: term, op: Some(op), caller: None }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_no_lease_ends_at_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pauses = Pauses::new(start);
        assert!(!pauses.holds(at(210), TICK));
        assert!(!pauses.holds(at(800), TICK), "a little late is no pause");
        assert!(pauses.holds(at(60_000), TICK));
        assert!(pauses.holds(at(60_200), TICK));
        assert!(pauses.holds(at(60_400), TICK));
        assert!(!pauses.holds(at(60_900), TICK) || pauses.held_until.is_some());
        assert!(!pauses.holds(at(61_100), TICK));
        // A long round of expiries is no pause.
        pauses.awake(at(70_000));
        assert!(!pauses.holds(at(70_200), TICK));
    }
}
