use bytes::Bytes;
use keelstone_etcd_api::{pb, ApiError};

use crate::auth::{AuthCommand, Caller};

/// The replicated command: encoded once, by the member that proposes it. Versioned by its field numbers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    /// The term in which it was proposed.
    #[prost(uint64, tag = "1")]
    pub proposer_term: u64,
    #[prost(oneof = "Op", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 30")]
    pub op: Option<Op>,
    /// Whose permissions are checked when it is applied; without one it is the store's own, and may do all.
    #[prost(message, optional, tag = "15")]
    pub caller: Option<Caller>,
}

/// What a command does. Requests must have passed [`check`](crate::check) before they are proposed.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Op {
    #[prost(message, tag = "2")]
    Put(pb::PutRequest),
    #[prost(message, tag = "3")]
    DeleteRange(pb::DeleteRangeRequest),
    #[prost(message, tag = "4")]
    Txn(pb::TxnRequest),
    #[prost(message, tag = "5")]
    Compact(pb::CompactionRequest),
    /// The proposer has chosen the id and raised the TTL to the cluster's minimum.
    #[prost(message, tag = "6")]
    LeaseGrant(pb::LeaseGrantRequest),
    #[prost(message, tag = "7")]
    LeaseRevoke(pb::LeaseRevokeRequest),
    #[prost(message, tag = "8")]
    LeaseExpire(LeaseExpire),
    #[prost(message, tag = "9")]
    Alarm(pb::AlarmRequest),
    #[prost(message, tag = "30")]
    Moment(Moment),
    /// Answered by [`Response::None`]: there is nothing to say but that it was done.
    #[prost(message, tag = "10")]
    Auth(AuthCommand),
}

/// Revokes a lease whose time is over by the clock of the leader of `term`. Dropped unless the entry that
/// carries it is of the same term, so that a deposed leader revokes nothing.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct LeaseExpire {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(uint64, tag = "2")]
    pub term: u64,
}

/// The time of the newest revision, by its proposer's wall clock. One that is not after the last is dropped.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Moment {
    #[prost(int64, tag = "1")]
    pub unix_ms: i64,
}

/// One committed entry of the Raft log.
#[derive(Clone, Debug)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    /// The log id as Raft writes it, opaque here; stored in the same batch as the entry's effects.
    pub log_id: Bytes,
    pub payload: Payload,
}

#[derive(Clone, Debug)]
pub enum Payload {
    /// Changes nothing but the applied index.
    Blank,
    /// The new membership, opaque here.
    Membership(Bytes),
    Command(Command),
}

/// How an entry ended.
pub type Reply = Result<Response, ApiError>;

/// What an entry answers. Headers carry only `revision`; the rest is filled in by the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    None,
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    Alarm(pb::AlarmResponse),
}

/// How far the log has been applied. Nothing was applied yet if `log_id` is empty and `index` is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub index: u64,
    pub log_id: Bytes,
    /// The last membership; empty if there was none.
    pub membership: Bytes,
}
