//! The task that turns openraft's metrics into [`RaftStatus`] and tells the lease clocks who leads.

use std::{collections::BTreeMap, sync::Arc};

use openraft::{async_runtime::WatchReceiver, RaftMetrics, ServerState};
use tokio::sync::watch;

use crate::{
    core::Core,
    lease_clocks::LeaseClocks,
    rules,
    types::{StoredMembership, TypeConfig},
    RaftStatus,
};

pub(crate) async fn run(core: Arc<Core>) {
    let mut metrics = core.raft.metrics();
    let mut membership = None;
    loop {
        update(&metrics.borrow_watched(), &core.status, &core.clocks, &mut membership);
        if metrics.changed().await.is_err() {
            break;
        }
    }
    core.clocks.lead(None);
    core.status.send_modify(|status| {
        status.leader = None;
        status.failed.get_or_insert_with(|| "the log's task has ended".to_owned());
    });
}

/// Writes `metrics` into `status`. `membership` is what `status` shows already. Indexes alone wake nobody: they
/// change with every batch, and each watch stream would be woken for them.
fn update(
    metrics: &RaftMetrics<TypeConfig>,
    status: &watch::Sender<RaftStatus>,
    clocks: &LeaseClocks,
    membership: &mut Option<Arc<StoredMembership>>,
) {
    let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id);
    clocks.lead(leads.then_some(metrics.current_term));
    let new_membership = !membership.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, &metrics.membership_config));
    status.send_if_modified(|status| {
        let before = summary(status);
        status.id = metrics.id;
        status.leader = metrics.current_leader;
        status.term = metrics.current_term;
        status.last_index = metrics.last_log_index.unwrap_or(0);
        status.committed = metrics.local_committed.map_or(0, |log_id| log_id.index());
        status.applied = metrics.last_applied.map_or(0, |log_id| log_id.index());
        let failed = metrics.running_state.as_ref().err().map(ToString::to_string).or_else(|| status.failed.clone());
        let changed_failure = failed != status.failed;
        if changed_failure {
            if let Some(error) = &failed {
                tracing::error!(error, "this member had to stop");
            }
            status.failed = failed;
        }
        // A member that stopped must not be taken for a leader, and knows none.
        status.leader = status.leader.filter(|_| status.failed.is_none());
        if new_membership {
            show_members(status, &metrics.membership_config);
        }
        new_membership || changed_failure || summary(status) != before
    });
    *membership = Some(Arc::clone(&metrics.membership_config));
}

fn summary(status: &RaftStatus) -> (Option<u64>, u64) {
    (status.leader, status.term)
}

fn show_members(status: &mut RaftStatus, membership: &StoredMembership) {
    status.members = membership.nodes().map(|(id, member)| (*id, member.clone())).collect::<BTreeMap<_, _>>();
    status.voters = membership.voter_ids().collect();
    status.membership_index = membership.log_id().as_ref().map_or(0, |log_id| log_id.index());
    status.feature_level = rules::feature_level(&status.members, &status.voters);
    status.is_learner = status.members.contains_key(&status.id) && !status.voters.contains(&status.id);
}
