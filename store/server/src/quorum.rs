//! Whether a quorum answers, as this member sees it.

use std::sync::Arc;

use keelstone_raft::RaftStatus;
use tokio::sync::watch;

use crate::{
    constants::{LEADERLESS_ELECTIONS_MAX, QUORUM_RETRY_PAUSE},
    member::Member,
};

/// Asks for a quorum's confirmation once in each election time-out, and says in [`Member::quorum`] when none
/// came for [`LEADERLESS_ELECTIONS_MAX`] of them. Runs until the member stops.
pub(crate) async fn probe(member: Arc<Member>) {
    let stopping = member.stopping.clone();
    tokio::select! {
        biased;
        () = stopping.cancelled() => {}
        () = probe_forever(&member) => {}
    }
}

async fn probe_forever(member: &Member) {
    let every = member.limits.election_max;
    let patience = LEADERLESS_ELECTIONS_MAX * every;
    let mut confirmed = member.env.now();
    loop {
        let started = member.env.now();
        let answered = matches!(tokio::time::timeout(patience, member.raft.read_index()).await, Ok(Ok(())));
        if answered {
            confirmed = started;
        }
        let present = confirmed.elapsed() < patience;
        let changed = member.quorum.send_if_modified(|known| std::mem::replace(known, present) != present);
        if changed {
            tracing::info!(present, "quorum");
        }
        match answered {
            true => tokio::time::sleep_until(started + every).await,
            false => tokio::time::sleep(QUORUM_RETRY_PAUSE).await,
        }
    }
}

/// Resolves once the cluster was without a leader, or this member without a quorum, for
/// [`LEADERLESS_ELECTIONS_MAX`] election time-outs.
pub(crate) async fn leader_lost(member: &Member) {
    let mut quorum = member.quorum.subscribe();
    let mut status = member.status_watch();
    tokio::select! {
        biased;
        _ = quorum.wait_for(|present| !present) => {}
        () = leaderless(&mut status, LEADERLESS_ELECTIONS_MAX * member.limits.election_max) => {}
    }
}

async fn leaderless(status: &mut watch::Receiver<RaftStatus>, patience: std::time::Duration) {
    loop {
        if status.wait_for(|status| status.leader.is_none()).await.is_err() {
            return;
        }
        let found = tokio::time::timeout(patience, status.wait_for(|status| status.leader.is_some())).await;
        if !matches!(found, Ok(Ok(_))) {
            return;
        }
    }
}
