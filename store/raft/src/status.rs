use std::collections::BTreeMap;

use crate::MemberInfo;

/// What a member knows of itself and its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    pub id: u64,
    /// The leader as far as this member knows.
    pub leader: Option<u64>,
    pub term: u64,
    /// Index of the last entry in the local log.
    pub last_index: u64,
    /// Index up to which the log is known to be committed.
    pub committed: u64,
    /// Index up to which the state machine is applied.
    pub applied: u64,
    /// All members; those that are not in `voters` are learners.
    pub members: BTreeMap<u64, MemberInfo>,
    pub voters: Vec<u64>,
    /// This member does not vote (yet).
    pub is_learner: bool,
    /// Index of the entry that made this membership.
    pub membership_index: u64,
    /// What every member can do: commands and formats of a higher level are not used yet.
    pub feature_level: u32,
    /// The others have removed this member: it must not take part again.
    pub removed: bool,
    /// The member had to stop (its disk or its state machine failed); the text says why.
    pub failed: Option<String>,
}

impl RaftStatus {
    pub fn is_leader(&self) -> bool {
        self.leader == Some(self.id)
    }
}
