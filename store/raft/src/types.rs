//! openraft's types as this crate configures them.

use std::fmt;

use bytes::Bytes;
use keelstone_etcd_api::ApiError;
use keelstone_mvcc::Response;

use crate::{snapshot::SnapshotHandle, state_machine::StateMachine, MemberInfo};

openraft::declare_raft_types!(
    /// One leader a term (the standard election rule), so that a term names its leader.
    pub TypeConfig:
        D = Proposal,
        R = Answer,
        NodeId = u64,
        Node = MemberInfo,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = crate::runtime::Runtime,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type RaftState = openraft::RaftState<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, MemberInfo>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotHandle>;
pub(crate) type Fatal = openraft::errors::Fatal<TypeConfig>;

/// An encoded command. Encoded once, by the member that proposes it; decoded where it is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal(pub Bytes);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl From<String> for Proposal {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// What the state machine said to a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer(pub Result<Response, ApiError>);

/// A log id as openraft has it.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}
