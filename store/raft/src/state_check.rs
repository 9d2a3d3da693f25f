//! The task by which the leader compares what the members made of the same log: at equal applied indexes their
//! states must have equal hashes. Whoever differs from a majority gets the alarm CORRUPT, which quarantines it
//! (see [`crate::repair`]); without a majority nobody knows who is right and the whole cluster gets it.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use futures::StreamExt;
use keelstone_etcd_api::pb;
use keelstone_mvcc::{Command, Op};
use prost::Message;

use crate::{
    constants::{STATE_CHECK_INTERVAL, STATE_CHECK_TIME_MAX},
    core::Core,
    peer,
};

/// The alarm's member that stands for the cluster.
const WHOLE_CLUSTER: u64 = 0;

pub(crate) async fn run(core: Arc<Core>) {
    loop {
        tokio::time::sleep(STATE_CHECK_INTERVAL).await;
        if core.status.borrow().is_leader() {
            round(&core).await;
        }
    }
}

/// What a member answers to the leader.
pub(crate) fn answer(core: &Core, indexes: &[u64]) -> peer::StateHashesResponse {
    let known = core.progress.hashes.lock().unwrap_or_else(PoisonError::into_inner).all();
    let asked = known.into_iter().filter(|(index, _)| indexes.contains(index));
    let hashes = asked.map(|(index, hash)| peer::StateHash { index, hash }).collect();
    peer::StateHashesResponse { hashes, applied: core.mvcc.applied().index }
}

/// Whether this member's state was found to be damaged: it serves nothing of it until it is repaired.
pub(crate) fn is_quarantined(core: &Core) -> bool {
    has_alarm(core, core.config.id)
}

fn has_alarm(core: &Core, id: u64) -> bool {
    let corrupt = |alarm: &pb::AlarmMember| alarm.alarm() == pb::AlarmType::Corrupt;
    core.mvcc.alarms().iter().any(|alarm| corrupt(alarm) && alarm.member_id == id)
}

async fn round(core: &Core) {
    let own = core.progress.hashes.lock().unwrap_or_else(PoisonError::into_inner).all();
    let indexes: Vec<u64> = own.iter().map(|(index, _)| *index).collect();
    let asked = core.members().into_iter().filter(|(id, _)| *id != core.config.id).map(|(id, info)| {
        let request = peer::StateHashesRequest { indexes: indexes.clone() };
        async move {
            let mut client = core.peers.client(id, &info.peer_address).ok()?;
            let answer = tokio::time::timeout(STATE_CHECK_TIME_MAX, client.state_hashes(request)).await.ok()?.ok()?;
            let hashes = answer.into_inner().hashes.into_iter().map(|at| (at.index, at.hash)).collect();
            Some((id, hashes))
        }
    });
    let mut said: BTreeMap<u64, BTreeMap<u64, u64>> =
        futures::future::join_all(asked).await.into_iter().flatten().collect();
    said.insert(core.config.id, own.into_iter().collect());
    let voters = core.status.borrow().voters.clone();
    for id in damaged(&said, &voters) {
        if !has_alarm(core, id) {
            tracing::error!(member = format!("{id:x}"), "the state differs from what the log says: alarm CORRUPT");
            raise(core, id).await;
        }
    }
}

/// Who differs from the majority of voters at the newest index that says something.
fn damaged(said: &BTreeMap<u64, BTreeMap<u64, u64>>, voters: &[u64]) -> Vec<u64> {
    let mut at_index: BTreeMap<u64, BTreeMap<u64, Vec<u64>>> = BTreeMap::new();
    for (id, hashes) in said {
        for (index, hash) in hashes {
            at_index.entry(*index).or_default().entry(*hash).or_default().push(*id);
        }
    }
    let mut found = Vec::new();
    for groups in at_index.values().rev().filter(|groups| groups.len() > 1) {
        let is_majority = |group: &&Vec<u64>| group.iter().filter(|id| voters.contains(id)).count() > voters.len() / 2;
        match groups.values().find(is_majority) {
            Some(right) => found.extend(groups.values().filter(|group| *group != right).flatten()),
            // All have answered and none of them is in a majority.
            None if groups.values().map(Vec::len).sum::<usize>() >= voters.len() => found.push(WHOLE_CLUSTER),
            None => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

async fn raise(core: &Core, member_id: u64) {
    let request = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Activate.into(),
        member_id,
        alarm: pb::AlarmType::Corrupt.into(),
    };
    let command = Command { caller: None, proposer_term: core.term(), op: Some(Op::Alarm(request)) }.encode_to_vec();
    // Whether it was carried out shows in the next round.
    let mut outcomes = core.write_here(vec![command.into()]).await.boxed();
    let _ = tokio::time::timeout_at(core.deadline(), outcomes.next()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(hashes: &[(u64, &[(u64, u64)])]) -> BTreeMap<u64, BTreeMap<u64, u64>> {
        hashes.iter().map(|(id, hashes)| (*id, hashes.iter().copied().collect())).collect()
    }

    #[test]
    fn whoever_differs_from_the_majority_is_damaged() {
        let equal = said(&[(1, &[(5, 50), (6, 60)]), (2, &[(6, 60)]), (3, &[(5, 50)])]);
        assert_eq!(damaged(&equal, &[1, 2, 3]), Vec::<u64>::new());
        let third = said(&[(1, &[(5, 50), (6, 60)]), (2, &[(6, 60)]), (3, &[(5, 50), (6, 61)])]);
        assert_eq!(damaged(&third, &[1, 2, 3]), [3]);
        let leader = said(&[(1, &[(6, 61)]), (2, &[(6, 60)]), (3, &[(6, 60)])]);
        assert_eq!(damaged(&leader, &[1, 2, 3]), [1], "the leader asks and is as fallible as the others");
        let learner = said(&[(1, &[(6, 60)]), (2, &[(6, 60)]), (9, &[(6, 61)])]);
        assert_eq!(damaged(&learner, &[1, 2, 3]), [9]);
    }

    #[test]
    fn without_a_majority_nobody_is_believed() {
        let two = said(&[(1, &[(6, 60)]), (2, &[(6, 61)])]);
        assert_eq!(damaged(&two, &[1, 2]), [WHOLE_CLUSTER]);
        // The third one's word is awaited.
        assert_eq!(damaged(&two, &[1, 2, 3]), Vec::<u64>::new());
    }
}
