//! Changes of the membership: decided and carried out by the leader, one at a time.

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use keelstone_etcd_api::ApiError;
use openraft::{
    async_runtime::WatchReceiver,
    errors::{ChangeMembershipError, ClientWriteError},
    ChangeMembers, RaftMetrics,
};
use tokio::time::Instant;

use crate::{
    constants::{LEARNERS_MAX, PROMOTION_LAG_ENTRIES_MAX},
    core::{Core, Leader},
    peer,
    peers::never_sent,
    rules::{self, MemberChange, Step, View},
    types::TypeConfig,
    MemberInfo, RaftError,
};

/// Pause before a change that had to wait for another one, or for a leader, is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long a member that ends up in the majority's way may be silent and still count as answering, in
/// election time-outs.
const SILENCE_ELECTIONS_MAX: u32 = 3;

/// A change that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberChanged {
    /// The member concerned.
    pub id: u64,
    /// The entry that made the change; 0 if nothing had to change.
    pub index: u64,
}

impl Core {
    /// Carries out a change through the leader, wherever it is; returns once it can be seen here.
    pub(crate) async fn change_members(&self, change: MemberChange) -> Result<MemberChanged, RaftError> {
        let deadline = self.deadline();
        loop {
            let result = match self.leader(deadline).await? {
                Leader::Here => self.change_members_here(&change, deadline).await,
                Leader::At(mut client) => {
                    let call = client.change_members(change_out(&change));
                    match tokio::time::timeout_at(deadline, call).await {
                        Ok(Ok(response)) => changed_in(response.into_inner()),
                        Ok(Err(status)) if never_sent(&status) => Err(RaftError::NoLeader),
                        Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => Err(RaftError::NoLeader),
                        Ok(Err(status)) => Err(RaftError::Unknown(format!("the leader: {}", status.message()))),
                        Err(_) => Err(RaftError::Unknown("the leader did not answer in time".into())),
                    }
                }
            };
            match result {
                Ok(changed) => {
                    self.wait_membership(changed.index, deadline).await;
                    return Ok(changed);
                }
                Err(RaftError::NoLeader) if self.env.now() < deadline => tokio::time::sleep(RETRY_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// The leader's side.
    ///
    /// # Errors
    /// `NoLeader` if this member does not lead: nothing was changed.
    pub(crate) async fn change_members_here(
        &self,
        change: &MemberChange,
        deadline: Instant,
    ) -> Result<MemberChanged, RaftError> {
        let turn = tokio::time::timeout_at(deadline, self.changing.lock());
        let _turn = turn.await.map_err(|_| RaftError::Timeout)?;
        loop {
            if !self.status.borrow().is_leader() {
                return Err(RaftError::NoLeader);
            }
            let (step, fresh_id) = {
                let metrics = self.raft.metrics();
                let metrics = metrics.borrow_watched();
                let seen = Seen::of(self, &metrics);
                (rules::step(change, &seen.view())?, seen.new_id(self))
            };
            let (id, changes) = match (step, change_id(change)) {
                (Step::Nothing, id) => return Ok(MemberChanged { id, index: 0 }),
                (Step::AddLearner(info), _) => (fresh_id, ChangeMembers::AddNodes(BTreeMap::from([(fresh_id, info)]))),
                (Step::RemoveLearner(id), _) => (id, ChangeMembers::RemoveNodes(BTreeSet::from([id]))),
                (Step::RemoveVoter(id), _) => (id, ChangeMembers::RemoveVoters(BTreeSet::from([id]))),
                (Step::SetInfo(id, info), _) => (id, ChangeMembers::SetNodes(BTreeMap::from([(id, info)]))),
                (Step::AddVoter(id), _) => (id, ChangeMembers::AddVoterIds(BTreeSet::from([id]))),
            };
            match self.commit_membership(changes, deadline).await? {
                Some(index) => {
                    tracing::info!(id = format!("{id:x}"), ?change, index, "membership changed");
                    return Ok(MemberChanged { id, index });
                }
                None if self.env.now() < deadline => tokio::time::sleep(RETRY_PAUSE).await,
                None => return Err(RaftError::Timeout),
            }
        }
    }

    /// Appends and commits a membership, in two steps if the voters change; returns the last one's index once
    /// this member's own view has it. `None` if another change is under way.
    pub(crate) async fn commit_membership(
        &self,
        changes: ChangeMembers<u64, MemberInfo>,
        deadline: Instant,
    ) -> Result<Option<u64>, RaftError> {
        type Error = openraft::errors::RaftError<TypeConfig, ClientWriteError<TypeConfig>>;
        let changed = tokio::time::timeout_at(deadline, self.raft.change_membership(changes, false)).await;
        let error = match changed {
            Ok(Ok(response)) => {
                let index = response.log_id.index();
                self.wait_membership(index, deadline).await;
                return Ok(Some(index));
            }
            Ok(Err(error)) => error,
            Err(_) => return Err(RaftError::Unknown("the membership change was not committed in time".into())),
        };
        match error {
            Error::Fatal(fatal) => Err(fatal.into()),
            Error::APIError(ClientWriteError::ForwardToLeader(_)) => Err(RaftError::NoLeader),
            Error::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
                ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_) => Ok(None),
                ChangeMembershipError::LearnerNotFound(_) => Err(ApiError::MemberNotFound.into()),
                ChangeMembershipError::EmptyMembership(_) => Err(ApiError::NotEnoughStarted.into()),
                other => Err(RaftError::Fatal(other.to_string())),
            },
            Error::APIError(other) => Err(RaftError::Unknown(other.to_string())),
        }
    }

    /// Waits until this member's status shows the membership of `index`.
    async fn wait_membership(&self, index: u64, deadline: Instant) {
        let mut status = self.status.subscribe();
        let shown = status.wait_for(|status| status.membership_index >= index || status.failed.is_some());
        // It is committed, whether it can be seen here in time or not.
        let _ = tokio::time::timeout_at(deadline, shown).await;
    }
}

/// What the leader's metrics say.
pub(crate) struct Seen {
    members: BTreeMap<u64, MemberInfo>,
    voters: Vec<u64>,
    active: Vec<u64>,
    in_sync: Vec<u64>,
    /// Voters change at this moment, or a leader that did so is gone.
    pub is_joint: bool,
}

impl Seen {
    pub(crate) fn of(core: &Core, metrics: &RaftMetrics<TypeConfig>) -> Self {
        let membership = &metrics.membership_config;
        let members: BTreeMap<_, _> = membership.nodes().map(|(id, info)| (*id, info.clone())).collect();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let silence_max = core.config.timing.election_timeout() * SILENCE_ELECTIONS_MAX;
        let heard = |id: u64| {
            let last = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&id)).and_then(Option::as_ref);
            id == core.config.id || last.is_some_and(|last| openraft::Instant::elapsed(&**last) < silence_max)
        };
        let last_index = metrics.last_log_index.unwrap_or(0);
        let in_sync = |id: u64| {
            let matched = metrics.replication.as_ref().and_then(|all| all.get(&id)).and_then(Option::as_ref);
            matched.is_some_and(|matched| is_in_sync(matched.index(), last_index))
        };
        Self {
            active: voters.iter().copied().filter(|id| heard(*id)).collect(),
            in_sync: members.keys().copied().filter(|id| heard(*id) && in_sync(*id)).collect(),
            is_joint: membership.membership().get_joint_config().len() > 1,
            members,
            voters,
        }
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            members: &self.members,
            voters: &self.voters,
            active: self.active.clone(),
            in_sync: self.in_sync.clone(),
            learners_max: LEARNERS_MAX,
        }
    }

    /// Learners that have started and caught up, and are to vote.
    pub(crate) fn promotable(&self, all: bool) -> impl Iterator<Item = u64> + '_ {
        let learners = self.members.iter().filter(|(id, _)| !self.voters.contains(id));
        let wanted = learners.filter(move |(_, info)| info.level > 0 && (all || info.wants_vote));
        wanted.map(|(id, _)| *id).filter(|id| self.in_sync.contains(id))
    }

    /// A voter that could lead in this member's place.
    pub(crate) fn heir(&self, but: u64) -> Option<u64> {
        self.voters.iter().copied().find(|id| *id != but && self.in_sync.contains(id))
    }

    /// An id that no member has.
    fn new_id(&self, core: &Core) -> u64 {
        loop {
            let id = core.env.random().next_u64();
            if id != 0 && !self.members.contains_key(&id) {
                return id;
            }
        }
    }
}

/// etcd's measure (nine tenths of the leader's log), and a bound for large logs.
fn is_in_sync(matched: u64, last: u64) -> bool {
    matched.saturating_mul(10) >= last.saturating_mul(9) && last.saturating_sub(matched) <= PROMOTION_LAG_ENTRIES_MAX
}

fn change_id(change: &MemberChange) -> u64 {
    match change {
        MemberChange::Add { .. } => 0,
        MemberChange::Remove { id } | MemberChange::Promote { id } => *id,
        MemberChange::Update { id, .. } | MemberChange::Publish { id, .. } => *id,
    }
}

pub(crate) fn change_out(change: &MemberChange) -> peer::ChangeMembersRequest {
    use peer::change_members_request::{Add, Change, Publish, Update};
    let change = match change.clone() {
        MemberChange::Add { peer_urls, peer_address, learner } => Change::Add(Add { peer_urls, peer_address, learner }),
        MemberChange::Remove { id } => Change::Remove(id),
        MemberChange::Update { id, peer_urls, peer_address } => Change::Update(Update { id, peer_urls, peer_address }),
        MemberChange::Promote { id } => Change::Promote(id),
        MemberChange::Publish { id, name, client_urls, level } => {
            Change::Publish(Publish { id, name, client_urls, level })
        }
    };
    peer::ChangeMembersRequest { change: Some(change) }
}

pub(crate) fn change_in(request: peer::ChangeMembersRequest) -> Option<MemberChange> {
    use peer::change_members_request::Change;
    Some(match request.change? {
        Change::Add(add) => {
            MemberChange::Add { peer_urls: add.peer_urls, peer_address: add.peer_address, learner: add.learner }
        }
        Change::Remove(id) => MemberChange::Remove { id },
        Change::Update(update) => {
            MemberChange::Update { id: update.id, peer_urls: update.peer_urls, peer_address: update.peer_address }
        }
        Change::Promote(id) => MemberChange::Promote { id },
        Change::Publish(said) => {
            MemberChange::Publish { id: said.id, name: said.name, client_urls: said.client_urls, level: said.level }
        }
    })
}

/// An error of the table is an answer; all others are the call's.
pub(crate) fn changed_out(
    result: Result<MemberChanged, RaftError>,
) -> Result<peer::ChangeMembersResponse, tonic::Status> {
    match result {
        Ok(MemberChanged { id, index }) => Ok(peer::ChangeMembersResponse { error: String::new(), id, index }),
        Err(RaftError::Api(error)) => {
            Ok(peer::ChangeMembersResponse { error: error.text().to_owned(), ..Default::default() })
        }
        Err(RaftError::NoLeader) => Err(tonic::Status::failed_precondition("not the leader")),
        Err(other) => Err(tonic::Status::unavailable(other.to_string())),
    }
}

fn changed_in(response: peer::ChangeMembersResponse) -> Result<MemberChanged, RaftError> {
    if response.error.is_empty() {
        return Ok(MemberChanged { id: response.id, index: response.index });
    }
    match ApiError::ALL.iter().find(|error| error.text() == response.error) {
        Some(error) => Err(RaftError::Api(*error)),
        None => Err(RaftError::Unknown(format!("the leader answered {:?}", response.error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_is_in_sync_when_it_has_nearly_all() {
        assert!(is_in_sync(0, 0) && is_in_sync(9, 10) && is_in_sync(99_500, 100_000));
        assert!(!is_in_sync(8, 10) && !is_in_sync(95_000, 100_000));
    }

    #[test]
    fn changes_and_their_answers_survive_the_wire() {
        let urls = vec!["http://h:1".to_owned()];
        let changes = [
            MemberChange::Add { peer_urls: urls.clone(), peer_address: "h:1".into(), learner: true },
            MemberChange::Remove { id: 1 },
            MemberChange::Update { id: 2, peer_urls: urls.clone(), peer_address: "h:2".into() },
            MemberChange::Promote { id: 3 },
            MemberChange::Publish { id: 4, name: "n".into(), client_urls: urls, level: 5 },
        ];
        for change in changes {
            assert_eq!(change_in(change_out(&change)), Some(change));
        }
        let refused = changed_in(changed_out(Err(ApiError::TooManyLearners.into())).unwrap());
        assert!(matches!(refused, Err(RaftError::Api(ApiError::TooManyLearners))));
        let done = MemberChanged { id: 3, index: 4 };
        assert_eq!(changed_in(changed_out(Ok(done)).unwrap()).unwrap(), done);
    }
}
