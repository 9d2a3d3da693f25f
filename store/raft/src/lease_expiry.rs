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

use crate::{
    constants::LEASE_EXPIRIES_BATCH_MAX,
    core::{Core, Leader},
    outcome::Outcome,
    peer, RaftError,
};

/// How late a lease may end.
const TICK: Duration = Duration::from_millis(200);
/// Pause before an expiry whose fate is unknown is proposed again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(core: Arc<Core>) {
    loop {
        tokio::time::sleep(TICK).await;
        if core.clocks.wants_list() {
            let mvcc = Arc::clone(&core.mvcc);
            let leases = core.env.offload(move || mvcc.leases()).await;
            fault::pause(Point::LeaseList).await;
            fault::sight(Sight::LeaseListed);
            core.clocks.list(&leases);
        }
        if core.clocks.next().is_some_and(|next| next <= core.env.now()) {
            expire(&core).await;
        }
    }
}

/// Proposes what is due, here and nowhere else: another leader counts for itself.
async fn expire(core: &Arc<Core>) {
    let Some((term, due)) = core.clocks.due(LEASE_EXPIRIES_BATCH_MAX) else { return };
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
