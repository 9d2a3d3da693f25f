//! The task by which the leader looks after the cluster: it gives learners that have caught up their vote, ends
//! changes that a leader left half done, and hands leadership over when its own disk is full or slow.

use std::{collections::BTreeSet, sync::Arc};

use openraft::{async_runtime::WatchReceiver, ChangeMembers};

use crate::{
    constants::{AUTOPILOT_INTERVAL, BAD_DISK_REST, SLOW_WRITE_MAX},
    core::Core,
    membership::Seen,
    rules::MemberChange,
    RaftError,
};

pub(crate) async fn run(core: Arc<Core>) {
    let mut rested = core.env.now();
    loop {
        tokio::time::sleep(AUTOPILOT_INTERVAL).await;
        if !core.status.borrow().is_leader() {
            continue;
        }
        if core.env.now() >= rested && has_bad_disk(&core) {
            rested = core.env.now() + BAD_DISK_REST;
            hand_over(&core).await;
            continue;
        }
        match round(&core).await {
            // Deposed, or too few answered: whoever leads then does it.
            Ok(()) | Err(RaftError::NoLeader | RaftError::Unknown(_) | RaftError::Timeout) => {}
            Err(error) => tracing::info!(%error, "the membership could not be changed yet"),
        }
    }
}

/// Whether the log has no space, or one of its writes takes so long that clients would have given up waiting.
fn has_bad_disk(core: &Core) -> bool {
    let health = core.wal.health();
    health.full || health.busy_since.is_some_and(|since| since.elapsed() > SLOW_WRITE_MAX)
}

async fn hand_over(core: &Core) {
    let metrics = core.raft.metrics();
    let heir = Seen::of(core, &metrics.borrow_watched()).heir(core.config.id);
    let Some(heir) = heir else { return };
    tracing::warn!(to = format!("{heir:x}"), health = ?core.wal.health(), "the disk is full or slow: another must lead");
    // Whether it worked shows in the next round.
    let _ = core.raft.trigger().transfer_leader(heir).await;
}

async fn round(core: &Core) -> Result<(), RaftError> {
    let (is_joint, promotable) = {
        let metrics = core.raft.metrics();
        let seen = Seen::of(core, &metrics.borrow_watched());
        let promotable: Vec<u64> = seen.promotable(core.config.promote_learners).collect();
        (seen.is_joint, promotable)
    };
    let deadline = core.deadline();
    if is_joint {
        // Whoever began it still goes on with it, or it is ended here.
        if let Ok(_turn) = core.changing.try_lock() {
            core.commit_membership(ChangeMembers::AddVoterIds(BTreeSet::new()), deadline).await?;
        }
        return Ok(());
    }
    for id in promotable {
        core.change_members_here(&MemberChange::Promote { id }, deadline).await?;
    }
    Ok(())
}
