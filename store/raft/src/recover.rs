//! The way out when a quorum is lost for good: one member goes on as a cluster of its own.

use std::{collections::BTreeMap, path::Path};

use keelstone_env::Env;
use keelstone_mvcc::Mvcc;
use keelstone_wal::{LogEntry, Wal, WalOptions};
use prost::Message;

use crate::{
    constants::APPEND_BYTES_MAX,
    convert,
    data_dir::{lock_data_dir, DataOwner},
    peer,
    types::{Membership, StoredMembership, Vote},
    MemberInfo, RaftError,
};

/// What a recovery starts from, and what it does.
#[derive(Clone, Debug)]
pub struct Recovery {
    pub member_id: u64,
    /// Before; a recovered cluster gets a new id, so that members of the old one that return cannot disturb it.
    pub cluster_id: u64,
    /// Members that are left behind: id and name.
    pub left_behind: BTreeMap<u64, String>,
    /// The last entry of this member's log. Whatever the old cluster acknowledged beyond it is lost.
    pub last_index: u64,
    /// The last entry that this member knows to be committed. Those after it were perhaps never acknowledged; they
    /// are kept.
    pub committed_index: u64,
}

/// Says what [`recover`] would start from, without changing anything but opening what is there.
///
/// # Errors
/// If the folder is in use, holds no member's data, or cannot be read.
pub async fn plan_recovery(env: &Env, data_dir: &Path, mvcc: &Mvcc) -> Result<Recovery, RaftError> {
    let _lock = lock_data_dir(env, data_dir).await?;
    Ok(Found::read(env, data_dir, mvcc).await?.recovery)
}

/// Makes the member whose data lies in `data_dir` the only one of a new cluster with all its data. At its next
/// start it elects itself and commits what is in its log.
///
/// # Errors
/// As [`plan_recovery`]; if the disk fails half-way it can be repeated.
pub async fn recover(env: &Env, data_dir: &Path, mvcc: &Mvcc) -> Result<Recovery, RaftError> {
    let _lock = lock_data_dir(env, data_dir).await?;
    let found = Found::read(env, data_dir, mvcc).await?;
    let id = found.recovery.member_id;
    // First of all it stops to be a member of the old cluster.
    let owner = DataOwner::new(env.random().next_u64().max(1), id);
    let (disk, dir) = (env.clone(), data_dir.to_owned());
    env.offload(move || owner.write(&disk, &dir)).await?;

    // A term that nobody else can have used: this member votes for itself in it.
    let term = found.term + 1;
    found.wal.save_vote(convert::vote_out(&Vote::new(term, id)).encode_to_vec().into()).await?;
    let alone = Membership::new(vec![[id].into()], BTreeMap::from([(id, found.own)]))
        .map_err(|error| RaftError::Fatal(format!("the membership makes no sense: {error}")))?;
    let entry = LogEntry {
        index: found.recovery.last_index + 1,
        term,
        kind: peer::EntryKind::Membership as u8,
        body: convert::membership_out(&alone).encode_to_vec().into(),
    };
    let (done, written) = tokio::sync::oneshot::channel();
    found.wal.append(vec![entry], Box::new(move |result| drop(done.send(result)))).await?;
    written.await.map_err(|_| RaftError::Stopped)??;
    Ok(found.recovery)
}

struct Found {
    wal: Wal,
    term: u64,
    own: MemberInfo,
    recovery: Recovery,
}

impl Found {
    async fn read(env: &Env, data_dir: &Path, mvcc: &Mvcc) -> Result<Self, RaftError> {
        let fatal = |what: &str| RaftError::Fatal(format!("{}: {what}", data_dir.display()));
        let (disk, dir) = (env.clone(), data_dir.to_owned());
        let owner = env.offload(move || DataOwner::read(&disk, &dir)).await?;
        let owner = owner.ok_or_else(|| fatal("holds no member's data"))?;
        let wal = Wal::open(env.clone(), WalOptions::new(data_dir.join("wal"))).await?;
        let state = wal.state();
        let applied = mvcc.applied();
        let purged = state.purged.as_ref().map_or(0, |(index, _)| *index);
        let last_index = state.last.map_or(purged, |(index, _)| index);
        if last_index < applied.index || applied.log_id.is_empty() && state.last.is_none() {
            return Err(fatal("the log does not belong to the state, or both are empty"));
        }
        let membership = last_membership(&wal, mvcc, last_index).await?;
        let members: BTreeMap<u64, MemberInfo> = membership.nodes().map(|(id, info)| (*id, info.clone())).collect();
        let own = members.get(&owner.member_id).cloned().ok_or_else(|| fatal("its member is not of its cluster"))?;
        let vote = state.vote.map(peer::Vote::decode).transpose().map_err(|_| fatal("its vote cannot be read"))?;
        let term = vote.map_or(0, |vote| vote.term).max(state.last.map_or(0, |(_, term)| term));
        let committed = crate::log_store::LogStore::new(wal.clone()).committed()?;
        let committed_index = committed.map_or(0, |log_id| log_id.index()).max(applied.index);
        let left_behind = members.into_iter().filter(|(id, _)| *id != owner.member_id);
        let left_behind = left_behind.map(|(id, info)| (id, info.name)).collect();
        let (member_id, cluster_id) = (owner.member_id, owner.cluster_id);
        let recovery = Recovery { member_id, cluster_id, left_behind, last_index, committed_index };
        Ok(Self { wal, term, own, recovery })
    }
}

/// The newest membership of the log, committed or not; that of the state if the log has none after it.
async fn last_membership(wal: &Wal, mvcc: &Mvcc, last_index: u64) -> Result<StoredMembership, RaftError> {
    let invalid = |error: convert::Invalid| RaftError::Fatal(error.to_string());
    let applied = mvcc.applied();
    let stored = peer::StoredMembership::decode(applied.membership);
    let stored = stored.map_err(|error| RaftError::Fatal(format!("the membership cannot be read: {error}")))?;
    let mut found = convert::stored_membership_in(stored).map_err(invalid)?;
    let mut next = if applied.log_id.is_empty() { 0 } else { applied.index + 1 };
    while next <= last_index {
        let entries = wal.read(next, last_index + 1, Some(APPEND_BYTES_MAX)).await?;
        let Some(last) = entries.last() else { break };
        next = last.index + 1;
        for entry in entries.iter().filter(|entry| entry.kind == peer::EntryKind::Membership as u8) {
            let read = peer::Membership::decode(entry.body.clone());
            let read = read.map_err(|error| RaftError::Fatal(format!("entry {}: {error}", entry.index)))?;
            let log_id = crate::types::log_id(entry.term, entry.index);
            found = StoredMembership::new(Some(log_id), convert::membership_in(read).map_err(invalid)?);
        }
    }
    Ok(found)
}
