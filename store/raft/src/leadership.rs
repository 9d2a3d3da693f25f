//! Whether this member still leads, and up to where all that was acknowledged lies in its log: what a linearizable
//! read needs (Raft dissertation, section 6.4).
//!
//! A leader is confirmed by members that, after the read was asked for, followed it and had voted for nobody newer. A
//! follower that asks for its own readers is such a member itself, so that of three members two need one message:
//!
//! ```text
//! reader -> follower: read      follower -> leader: read index, I follow you in term 7
//!                               leader + follower are a quorum: my commit index is 41
//! ```
//!
//! Why that is enough: a newer leader has the votes of a quorum, which shares a member with this one. That member said
//! that it follows term 7, so it gave its newer vote, and the newer leader committed its first entry, after the read
//! was asked for. What counts is the vote in the log, which is there before anybody is told of it.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use futures::{future, stream::FuturesUnordered, Future, StreamExt};
use keelstone_env::{
    bug::{self, Bug},
    fault::{self, Point},
};

use crate::{
    constants::WITNESS_PATIENCE,
    convert,
    core::Core,
    log_store::saved_vote,
    peer,
    types::{LogId, RaftState, Vote},
    RaftError,
};

/// A member, and the vote that its log had at some moment.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub member: u64,
    pub vote: Vote,
}

/// What a member's witnesses say of its leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It led when the first witness spoke: a read that was asked for before must see all before this index.
    LedUpTo(u64),
    /// It may lead, but not enough witnesses say so, or no entry of its own term is committed yet.
    Unknown,
    /// It does not lead.
    NotLeading,
}

impl Core {
    /// This member's vote, by which it witnesses; none if it must not take part, or never voted.
    pub(crate) fn own_vote(&self) -> Option<peer::Vote> {
        let takes_part = self.takes_part.load(Ordering::Acquire);
        let vote = saved_vote(&self.wal).ok().flatten().filter(|_| takes_part)?;
        Some(convert::vote_out(&vote))
    }

    /// What `witnesses` and this member itself say of its leadership.
    pub(crate) async fn judge_leadership(&self, witnesses: Vec<Witness>) -> Result<Judgement, RaftError> {
        let own = self.config.id;
        let judgement = self.raft.with_raft_state(move |state: &RaftState| {
            let membership = state.membership_state.effective().membership();
            judge(own, state.vote_ref(), state.cluster_committed(), membership.get_joint_config(), &witnesses)
        });
        let judgement = judgement.await?;
        fault::pause(Point::ReadConfirmed).await;
        Ok(match judgement {
            // tikv 6340 put back: what is applied here, whoever committed it.
            Judgement::LedUpTo(_) if bug::planted(Bug::ReadBeforeOwnCommit) => {
                Judgement::LedUpTo(*self.progress.applied.borrow())
            }
            judgement => judgement,
        })
    }

    /// Asks the other voters for their votes until they are a quorum with this member.
    pub(crate) async fn confirm_leadership(&self) -> Result<Judgement, RaftError> {
        let needed = self.status.borrow().voters.len() / 2;
        let mut witnesses = Vec::new();
        let mut answers = self.ask_witnesses(needed).filter_map(future::ready);
        loop {
            // With fewer there is nothing to judge.
            if witnesses.len() >= needed {
                let judgement = self.judge_leadership(witnesses.clone()).await?;
                if judgement != Judgement::Unknown {
                    return Ok(judgement);
                }
            }
            let Some(witness) = answers.next().await else { return Ok(Judgement::Unknown) };
            if witnesses.is_empty() {
                self.first_witness.store(witness.member, Ordering::Relaxed);
            }
            witnesses.push(witness);
        }
    }

    /// As many as are needed are asked at once, beginning with the one that was the fastest last time; the others a
    /// little later, if need be.
    fn ask_witnesses(&self, needed: usize) -> FuturesUnordered<impl Future<Output = Option<Witness>> + '_> {
        let mut others: Vec<_> = {
            let status = self.status.borrow();
            let others = status.voters.iter().filter(|id| **id != self.config.id);
            others.filter_map(|id| Some((*id, status.members.get(id)?.peer_address.clone()))).collect()
        };
        let first = self.first_witness.load(Ordering::Relaxed);
        others.sort_by_key(|(id, _)| *id != first);
        let asked = others.into_iter().enumerate().map(|(place, (member, address))| async move {
            if place >= needed {
                tokio::time::sleep(WITNESS_PATIENCE).await;
            }
            let mut client = self.peers.client(member, &address).ok()?;
            let limit = self.config.timing.election_max;
            let asked = tokio::time::timeout(limit, client.current_vote(peer::CurrentVoteRequest {}));
            let vote = convert::vote_in(asked.await.ok()?.ok()?.into_inner().vote).ok()?;
            Some(Witness { member, vote })
        });
        asked.collect()
    }
}

fn judge(
    own: u64,
    vote: &Vote,
    committed: Option<&LogId>,
    configs: &[BTreeSet<u64>],
    witnesses: &[Witness],
) -> Judgement {
    if !vote.is_committed() || vote.leader_id().voted_for != own {
        return Judgement::NotLeading;
    }
    let follow = witnesses.iter().filter(|witness| witness.vote.leader_id() == vote.leader_id());
    let agreed: BTreeSet<u64> = follow.map(|witness| witness.member).chain([own]).collect();
    let is_quorum = configs.iter().all(|voters| voters.intersection(&agreed).count() > voters.len() / 2);
    match committed {
        Some(last) if is_quorum && (is_own(last, vote) || bug::planted(Bug::ReadBeforeOwnCommit)) => {
            Judgement::LedUpTo(last.index() + 1)
        }
        _ => Judgement::Unknown,
    }
}

fn is_own(entry: &LogId, vote: &Vote) -> bool {
    entry.committed_leader_id().term == vote.leader_id().term
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    const LEADER: u64 = 1;

    fn follows(member: u64, term: u64, leader: u64) -> Witness {
        Witness { member, vote: Vote::new(term, leader) }
    }

    fn judged(committed: Option<LogId>, configs: &[&[u64]], witnesses: &[Witness]) -> Judgement {
        let configs: Vec<BTreeSet<u64>> = configs.iter().map(|voters| voters.iter().copied().collect()).collect();
        judge(LEADER, &Vote::new_committed(7, LEADER), committed.as_ref(), &configs, witnesses)
    }

    #[test]
    fn it_takes_a_quorum_of_every_set_of_voters() {
        let last = Some(log_id(7, 40));
        let [two, three, four] = [2, 3, 4].map(|member| follows(member, 7, LEADER));
        for (configs, witnesses, led) in [
            (&[&[1][..]][..], vec![], true),
            (&[&[1, 2, 3]], vec![], false),
            (&[&[1, 2, 3]], vec![two.clone()], true),
            (&[&[1, 2, 3]], vec![two.clone(), two.clone()], true),
            (&[&[1, 2, 3]], vec![four.clone()], false),
            (&[&[1, 2, 3, 4, 5]], vec![two.clone(), two.clone()], false),
            (&[&[1, 2, 3, 4, 5]], vec![two.clone(), four.clone()], true),
            (&[&[1, 2, 3], &[1, 4, 5]], vec![two.clone(), three], false),
            (&[&[1, 2, 3], &[1, 4, 5]], vec![two.clone(), four.clone()], true),
            // A leader that is no voter any longer.
            (&[&[2, 4, 5]], vec![two.clone()], false),
            (&[&[2, 4, 5]], vec![two, four], true),
        ] {
            let expected = if led { Judgement::LedUpTo(41) } else { Judgement::Unknown };
            assert_eq!(judged(last, configs, &witnesses), expected, "{configs:?} {witnesses:?}");
        }
    }

    #[test]
    fn a_vote_for_anybody_else_counts_for_nothing() {
        let last = Some(log_id(7, 40));
        for witness in [follows(2, 8, 2), follows(2, 8, LEADER), follows(2, 7, 3), follows(2, 6, LEADER)] {
            assert_eq!(judged(last, &[&[1, 2, 3]], &[witness]), Judgement::Unknown);
        }
    }

    #[test]
    fn a_leader_must_have_committed_in_its_own_term() {
        let witnesses = [follows(2, 7, LEADER)];
        for last in [None, Some(log_id(6, 40))] {
            assert_eq!(judged(last, &[&[1, 2, 3]], &witnesses), Judgement::Unknown);
        }
    }

    #[test]
    fn a_candidate_and_a_follower_do_not_lead() {
        let configs = [BTreeSet::from([1])];
        for vote in [Vote::new(7, LEADER), Vote::new_committed(7, 2)] {
            assert_eq!(judge(LEADER, &vote, Some(&log_id(7, 40)), &configs, &[]), Judgement::NotLeading);
        }
    }
}
