//! Which changes of the membership are allowed, as etcd decides it, and what they come down to. Pure.

use std::collections::BTreeMap;

use keelstone_etcd_api::ApiError;

use crate::{features, MemberInfo};

/// A change of the membership that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Adds a member under a new id: a learner, which becomes a voter once it has caught up unless it is to
    /// stay one.
    Add {
        peer_urls: Vec<String>,
        peer_address: String,
        learner: bool,
    },
    Remove {
        id: u64,
    },
    /// The member is reached elsewhere from now on.
    Update {
        id: u64,
        peer_urls: Vec<String>,
        peer_address: String,
    },
    /// Makes a learner that has caught up a voter.
    Promote {
        id: u64,
    },
    /// What a member says of itself.
    Publish {
        id: u64,
        name: String,
        client_urls: Vec<String>,
        level: u32,
    },
}

/// What an allowed change does to the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is so already.
    Nothing,
    AddLearner(MemberInfo),
    RemoveLearner(u64),
    RemoveVoter(u64),
    SetInfo(u64, MemberInfo),
    AddVoter(u64),
}

/// The membership as the leader has it.
pub(crate) struct View<'a> {
    pub members: &'a BTreeMap<u64, MemberInfo>,
    pub voters: &'a [u64],
    /// Voters that answered lately, the leader itself included.
    pub active: Vec<u64>,
    /// Learners that have (nearly) all of the leader's log.
    pub in_sync: Vec<u64>,
    pub learners_max: usize,
}

impl View<'_> {
    fn is_voter(&self, id: u64) -> bool {
        self.voters.contains(&id)
    }

    fn member(&self, id: u64) -> Result<&MemberInfo, ApiError> {
        self.members.get(&id).ok_or(ApiError::MemberNotFound)
    }

    /// Voters, and learners on their way to a vote.
    fn voting(&self) -> impl Iterator<Item = (u64, &MemberInfo)> {
        let voting = self.members.iter().filter(|(id, info)| self.is_voter(**id) || info.wants_vote);
        voting.map(|(id, info)| (*id, info))
    }

    fn check_urls(&self, but: Option<u64>, urls: &[String]) -> Result<(), ApiError> {
        if urls.is_empty() {
            return Err(ApiError::BadMemberUrls);
        }
        let others = self.members.iter().filter(|(id, _)| Some(**id) != but);
        let known = others.flat_map(|(_, info)| &info.peer_urls).any(|url| urls.contains(url));
        if known {
            return Err(ApiError::PeerUrlExists);
        }
        Ok(())
    }

    /// etcd's strict check: a member may only join the vote if, with it, those that have started are a quorum.
    fn check_joins(&self, but: Option<u64>) -> Result<(), ApiError> {
        let others = || self.voting().filter(|(id, _)| Some(*id) != but);
        let (members, started) = (others().count() + 1, others().filter(|(_, info)| info.has_started()).count());
        // One that becomes two: how a single member gets its first copy.
        if (members, started) == (2, 1) || started > members / 2 {
            return Ok(());
        }
        Err(ApiError::NotEnoughStarted)
    }

    /// Those that stay must have a quorum among them: of members that ever started, and, unless the one that
    /// goes is silent anyway, of members that answer.
    fn check_leaves(&self, id: u64) -> Result<(), ApiError> {
        let stay = || self.voting().filter(|(other, _)| *other != id);
        let (members, started) = (stay().count(), stay().filter(|(_, info)| info.has_started()).count());
        if started < members / 2 + 1 {
            return Err(ApiError::NotEnoughStarted);
        }
        let voters = self.voters.iter().filter(|other| **other != id).count();
        let active = self.active.iter().filter(|other| **other != id).count();
        if self.active.contains(&id) && active < voters / 2 + 1 {
            return Err(ApiError::Unhealthy);
        }
        Ok(())
    }
}

/// What `change` comes down to.
///
/// # Errors
/// etcd's, if it is not allowed; nothing is to be changed then.
pub(crate) fn step(change: &MemberChange, view: &View<'_>) -> Result<Step, ApiError> {
    // One that has never started must not keep others from being changed.
    let needed = features::of_change(change);
    if view.members.values().any(|info| info.level > 0 && info.level < needed) {
        return Err(ApiError::NotCapable);
    }
    match change {
        MemberChange::Add { peer_urls, peer_address, learner } => {
            view.check_urls(None, peer_urls)?;
            if *learner {
                let learners = view.members.iter().filter(|(id, info)| !view.is_voter(**id) && !info.wants_vote);
                if learners.count() >= view.learners_max {
                    return Err(ApiError::TooManyLearners);
                }
            } else {
                view.check_joins(None)?;
            }
            Ok(Step::AddLearner(MemberInfo {
                peer_address: peer_address.clone(),
                peer_urls: peer_urls.clone(),
                wants_vote: !learner,
                ..MemberInfo::default()
            }))
        }
        MemberChange::Remove { id } => {
            view.member(*id)?;
            if !view.is_voter(*id) {
                return Ok(Step::RemoveLearner(*id));
            }
            view.check_leaves(*id)?;
            Ok(Step::RemoveVoter(*id))
        }
        MemberChange::Update { id, peer_urls, peer_address } => {
            let info = view.member(*id)?;
            view.check_urls(Some(*id), peer_urls)?;
            let new = MemberInfo { peer_urls: peer_urls.clone(), peer_address: peer_address.clone(), ..info.clone() };
            Ok(set_info(*id, info, new))
        }
        MemberChange::Promote { id } => {
            view.member(*id)?;
            if view.is_voter(*id) {
                return Err(ApiError::MemberNotLearner);
            }
            if !view.in_sync.contains(id) {
                return Err(ApiError::LearnerNotReady);
            }
            view.check_joins(Some(*id))?;
            Ok(Step::AddVoter(*id))
        }
        MemberChange::Publish { id, name, client_urls, level } => {
            let info = view.member(*id)?;
            // The cluster's level never falls, or what is in the log could not be read everywhere.
            if *level < feature_level(view.members, view.voters) {
                return Err(ApiError::NotCapable);
            }
            let new =
                MemberInfo { name: name.clone(), client_urls: client_urls.clone(), level: *level, ..info.clone() };
            Ok(set_info(*id, info, new))
        }
    }
}

fn set_info(id: u64, old: &MemberInfo, new: MemberInfo) -> Step {
    if *old == new {
        Step::Nothing
    } else {
        Step::SetInfo(id, new)
    }
}

/// What all members can do: the lowest level among voters (1 for one that has not said) and learners that have
/// said.
pub(crate) fn feature_level(members: &BTreeMap<u64, MemberInfo>, voters: &[u64]) -> u32 {
    let counted = members.iter().filter(|(id, info)| voters.contains(id) || info.level > 0);
    counted.map(|(_, info)| info.level.max(1)).min().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(id: u64, started: bool) -> MemberInfo {
        let name = if started { format!("m{id}") } else { String::new() };
        MemberInfo {
            name,
            peer_urls: vec![format!("http://h{id}:1")],
            level: if started { 2 } else { 0 },
            ..MemberInfo::default()
        }
    }

    fn members(started: &[u64], not_started: &[u64]) -> BTreeMap<u64, MemberInfo> {
        let started = started.iter().map(|id| (*id, info(*id, true)));
        started.chain(not_started.iter().map(|id| (*id, info(*id, false)))).collect()
    }

    fn view<'a>(members: &'a BTreeMap<u64, MemberInfo>, voters: &'a [u64], active: &[u64]) -> View<'a> {
        View { members, voters, active: active.to_vec(), in_sync: Vec::new(), learners_max: 1 }
    }

    fn add(url: &str, learner: bool) -> MemberChange {
        MemberChange::Add { peer_urls: vec![url.to_owned()], peer_address: "a:1".into(), learner }
    }

    #[test]
    fn adding_follows_etcds_rules() {
        let all = members(&[1, 2, 3], &[]);
        let three = view(&all, &[1, 2, 3], &[1, 2, 3]);
        assert_eq!(step(&add("http://h2:1", false), &three), Err(ApiError::PeerUrlExists));
        let none = MemberChange::Add { peer_urls: vec![], peer_address: String::new(), learner: false };
        assert_eq!(step(&none, &three), Err(ApiError::BadMemberUrls));
        let Ok(Step::AddLearner(added)) = step(&add("http://h4:1", false), &three) else { panic!() };
        assert!(added.wants_vote && !added.has_started());

        // One that waits for its start does not keep others out, two would.
        let mut waiting = all.clone();
        waiting.insert(4, added.clone());
        assert!(step(&add("http://h5:1", false), &view(&waiting, &[1, 2, 3], &[1, 2, 3])).is_ok());
        let mut single = members(&[1], &[]);
        assert!(step(&add("http://h2:1", false), &view(&single, &[1], &[1])).is_ok());
        single.insert(2, added);
        let refused = step(&add("http://h3:1", false), &view(&single, &[1], &[1]));
        assert_eq!(refused, Err(ApiError::NotEnoughStarted));
    }

    #[test]
    fn learners_are_counted_and_promoted_when_they_are_in_sync() {
        let mut all = members(&[1, 2, 3], &[]);
        assert!(step(&add("http://h4:1", true), &view(&all, &[1, 2, 3], &[1])).is_ok());
        all.insert(4, info(4, true));
        let mut with_learner = view(&all, &[1, 2, 3], &[1]);
        assert_eq!(step(&add("http://h5:1", true), &with_learner), Err(ApiError::TooManyLearners));
        assert_eq!(step(&MemberChange::Promote { id: 9 }, &with_learner), Err(ApiError::MemberNotFound));
        assert_eq!(step(&MemberChange::Promote { id: 1 }, &with_learner), Err(ApiError::MemberNotLearner));
        assert_eq!(step(&MemberChange::Promote { id: 4 }, &with_learner), Err(ApiError::LearnerNotReady));
        with_learner.in_sync.push(4);
        assert_eq!(step(&MemberChange::Promote { id: 4 }, &with_learner), Ok(Step::AddVoter(4)));
        assert_eq!(step(&MemberChange::Remove { id: 4 }, &with_learner), Ok(Step::RemoveLearner(4)));
    }

    #[test]
    fn nobody_leaves_who_is_needed_for_a_quorum() {
        let all = members(&[1, 2, 3], &[]);
        let remove = |id| MemberChange::Remove { id };
        assert_eq!(step(&remove(7), &view(&all, &[1, 2, 3], &[1, 2])), Err(ApiError::MemberNotFound));
        assert_eq!(step(&remove(3), &view(&all, &[1, 2, 3], &[1, 2])), Ok(Step::RemoveVoter(3)), "silent anyway");
        assert_eq!(step(&remove(2), &view(&all, &[1, 2, 3], &[1, 2])), Err(ApiError::Unhealthy), "3 is silent");
        let one = members(&[1], &[]);
        assert_eq!(step(&remove(1), &view(&one, &[1], &[1])), Err(ApiError::NotEnoughStarted), "the last one");
        let odd = members(&[1, 2], &[3]);
        assert_eq!(step(&remove(2), &view(&odd, &[1, 2, 3], &[1, 2])), Err(ApiError::NotEnoughStarted));
    }

    #[test]
    fn the_level_is_that_of_the_lowest_and_never_falls() {
        let mut all = members(&[1, 2], &[3]);
        for (id, level) in [(1, 2), (2, 3)] {
            all.get_mut(&id).unwrap().level = level;
        }
        assert_eq!(feature_level(&all, &[1, 2]), 2, "a learner that has not started does not count");
        assert_eq!(feature_level(&all, &[1, 2, 3]), 1, "a voter does");
        let publish = |level| MemberChange::Publish { id: 3, name: "m3".into(), client_urls: vec![], level };
        assert_eq!(step(&publish(1), &view(&all, &[1, 2], &[1])), Err(ApiError::NotCapable));
        assert!(matches!(step(&publish(2), &view(&all, &[1, 2], &[1])), Ok(Step::SetInfo(3, info)) if info.level == 2));
    }

    #[test]
    fn a_member_that_knows_less_keeps_changes_out() {
        let mut all = members(&[1, 2, 3], &[4]);
        let voters = [1, 2, 3, 4];
        assert!(step(&add("http://h5:1", false), &view(&all, &voters, &[1, 2])).is_ok(), "4 has said nothing");
        all.get_mut(&2).unwrap().level = 1;
        assert_eq!(step(&add("http://h5:1", false), &view(&all, &voters, &[1])), Err(ApiError::NotCapable));
        let publish = MemberChange::Publish { id: 2, name: "m2".into(), client_urls: vec![], level: 2 };
        assert!(step(&publish, &view(&all, &voters, &[1])).is_ok());
        // If it is lost it can go all the same.
        let three = members(&[1, 3], &[]).into_iter().chain([(2, all[&2].clone())]).collect();
        let remove = MemberChange::Remove { id: 2 };
        assert_eq!(step(&remove, &view(&three, &[1, 2, 3], &[1, 3])), Ok(Step::RemoveVoter(2)));
    }

    #[test]
    fn what_is_so_already_changes_nothing() {
        let all = members(&[1], &[]);
        let same = MemberChange::Publish { id: 1, name: "m1".into(), client_urls: vec![], level: 2 };
        assert_eq!(step(&same, &view(&all, &[1], &[1])), Ok(Step::Nothing));
        let update = MemberChange::Update { id: 1, peer_urls: vec!["http://h9:1".into()], peer_address: "h9:1".into() };
        assert!(matches!(step(&update, &view(&all, &[1], &[1])), Ok(Step::SetInfo(1, _))));
    }
}
