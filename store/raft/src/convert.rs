//! openraft's types as they go over the wire and onto disk, and back. What a peer sends is checked here.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::{
    raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse},
    EntryPayload,
};
use prost::Message;

use crate::{
    peer,
    types::{self, Entry, LogId, Membership, Proposal, StoredMembership, TypeConfig, Vote},
    MemberInfo,
};

/// A message that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("invalid message: {0}")]
pub(crate) struct Invalid(pub &'static str);

pub(crate) fn log_id_out(log_id: &LogId) -> peer::LogId {
    peer::LogId { term: log_id.committed_leader_id().term, index: log_id.index() }
}

pub(crate) fn log_id_in(log_id: peer::LogId) -> LogId {
    types::log_id(log_id.term, log_id.index)
}

pub(crate) fn vote_out(vote: &Vote) -> peer::Vote {
    peer::Vote { term: vote.leader_id().term, node: vote.leader_id().voted_for, committed: vote.is_committed() }
}

pub(crate) fn vote_in(vote: Option<peer::Vote>) -> Result<Vote, Invalid> {
    let vote = vote.ok_or(Invalid("the vote is missing"))?;
    Ok(if vote.committed { Vote::new_committed(vote.term, vote.node) } else { Vote::new(vote.term, vote.node) })
}

pub(crate) fn entry_out(entry: Entry) -> peer::Entry {
    let (kind, body) = payload_out(entry.payload);
    peer::Entry { term: entry.log_id.committed_leader_id().term, index: entry.log_id.index(), kind: kind.into(), body }
}

pub(crate) fn entry_in(entry: peer::Entry) -> Result<Entry, Invalid> {
    let payload = payload_in(entry.kind(), entry.body)?;
    Ok(Entry { log_id: types::log_id(entry.term, entry.index), payload })
}

type Payload = EntryPayload<Proposal, u64, MemberInfo>;

pub(crate) fn payload_out(payload: Payload) -> (peer::EntryKind, Bytes) {
    match payload {
        EntryPayload::Blank => (peer::EntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(proposal) => (peer::EntryKind::Command, proposal.0),
        EntryPayload::Membership(membership) => {
            (peer::EntryKind::Membership, membership_out(&membership).encode_to_vec().into())
        }
    }
}

pub(crate) fn payload_in(kind: peer::EntryKind, body: Bytes) -> Result<Payload, Invalid> {
    Ok(match kind {
        peer::EntryKind::Blank => EntryPayload::Blank,
        peer::EntryKind::Command => EntryPayload::Normal(Proposal(body)),
        peer::EntryKind::Membership => {
            let membership = peer::Membership::decode(body).map_err(|_| Invalid("the membership cannot be read"))?;
            EntryPayload::Membership(membership_in(membership)?)
        }
    })
}

pub(crate) fn membership_out(membership: &Membership) -> peer::Membership {
    let configs = membership.get_joint_config().iter();
    peer::Membership {
        configs: configs.map(|ids| peer::Voters { ids: ids.iter().copied().collect() }).collect(),
        members: membership.nodes().map(|(id, member)| member_out(*id, member)).collect(),
    }
}

fn member_out(id: u64, member: &MemberInfo) -> peer::Member {
    peer::Member {
        id,
        name: member.name.clone(),
        peer_address: member.peer_address.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        level: member.level,
        wants_vote: member.wants_vote,
    }
}

pub(crate) fn membership_in(membership: peer::Membership) -> Result<Membership, Invalid> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|voters| voters.ids.into_iter().collect()).collect();
    let members: BTreeMap<u64, MemberInfo> = membership
        .members
        .into_iter()
        .map(|member| {
            let info = MemberInfo {
                name: member.name,
                peer_address: member.peer_address,
                peer_urls: member.peer_urls,
                client_urls: member.client_urls,
                level: member.level,
                wants_vote: member.wants_vote,
            };
            (member.id, info)
        })
        .collect();
    if configs.iter().flatten().any(|id| !members.contains_key(id)) {
        return Err(Invalid("a voter is not a member"));
    }
    // An empty one is the membership of an empty log; openraft refuses to build it in any other way.
    if configs.is_empty() && members.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, members).map_err(|_| Invalid("the membership makes no sense"))
}

pub(crate) fn stored_membership_out(stored: &StoredMembership) -> peer::StoredMembership {
    peer::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_out),
        membership: Some(membership_out(stored.membership())),
    }
}

pub(crate) fn stored_membership_in(stored: peer::StoredMembership) -> Result<StoredMembership, Invalid> {
    let membership = membership_in(stored.membership.unwrap_or_default())?;
    Ok(StoredMembership::new(stored.log_id.map(log_id_in), membership))
}

pub(crate) fn append_out(request: AppendEntriesRequest<TypeConfig>) -> peer::AppendRequest {
    peer::AppendRequest {
        vote: Some(vote_out(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_out),
        entries: request.entries.into_iter().map(entry_out).collect(),
        leader_commit: request.leader_commit.as_ref().map(log_id_out),
    }
}

pub(crate) fn append_in(request: peer::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Invalid> {
    let previous = request.previous.map(log_id_in);
    let after = |index: u64| index.checked_add(1).ok_or(Invalid("an index is too large"));
    request.leader_commit.as_ref().map(|commit| after(commit.index)).transpose()?;
    let mut next = previous.map(|log_id| after(log_id.index())).transpose()?;
    for entry in &request.entries {
        if next.is_some_and(|next| next != entry.index) {
            return Err(Invalid("entries do not follow each other"));
        }
        next = Some(after(entry.index)?);
    }
    Ok(AppendEntriesRequest {
        vote: vote_in(request.vote)?,
        prev_log_id: previous,
        entries: request.entries.into_iter().map(entry_in).collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.map(log_id_in),
    })
}

pub(crate) fn append_result_out(result: &StreamAppendResult<TypeConfig>) -> peer::AppendResponse {
    use peer::append_response::Outcome;
    let (outcome, log_id, vote) = match result {
        Ok(log_id) => (Outcome::Success, log_id.as_ref().map(log_id_out), None),
        Err(StreamAppendError::Conflict(log_id)) => (Outcome::Conflict, Some(log_id_out(log_id)), None),
        Err(StreamAppendError::HigherVote(vote)) => (Outcome::HigherVote, None, Some(vote_out(vote))),
    };
    peer::AppendResponse { outcome: outcome.into(), log_id, vote }
}

pub(crate) fn append_result_in(response: peer::AppendResponse) -> Result<StreamAppendResult<TypeConfig>, Invalid> {
    use peer::append_response::Outcome;
    let log_id = response.log_id.map(log_id_in);
    match response.outcome() {
        Outcome::Success | Outcome::Partial => Ok(Ok(log_id)),
        Outcome::Conflict => {
            Ok(Err(StreamAppendError::Conflict(log_id.ok_or(Invalid("the conflicting log id is missing"))?)))
        }
        Outcome::HigherVote => Ok(Err(StreamAppendError::HigherVote(vote_in(response.vote)?))),
        Outcome::Invalid => Err(Invalid("the outcome is missing")),
    }
}

pub(crate) fn vote_request_out(request: &VoteRequest<TypeConfig>) -> peer::VoteRequest {
    peer::VoteRequest {
        vote: Some(vote_out(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_out),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_in(request: peer::VoteRequest) -> Result<VoteRequest<TypeConfig>, Invalid> {
    let mut vote = VoteRequest::new(vote_in(request.vote)?, request.last_log_id.map(log_id_in));
    vote.leadership_transfer = request.leadership_transfer;
    Ok(vote)
}

pub(crate) fn vote_response_out(response: &VoteResponse<TypeConfig>) -> peer::VoteResponse {
    peer::VoteResponse {
        vote: Some(vote_out(&response.vote)),
        last_log_id: response.last_log_id.as_ref().map(log_id_out),
        granted: response.vote_granted,
    }
}

pub(crate) fn vote_response_in(response: peer::VoteResponse) -> Result<VoteResponse<TypeConfig>, Invalid> {
    let log_id = response.last_log_id.map(log_id_in);
    Ok(VoteResponse::new(vote_in(response.vote)?, log_id, response.granted))
}
