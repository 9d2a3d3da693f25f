//! What the other members call.

use std::{sync::atomic::Ordering, time::Duration};

use futures::{stream::BoxStream, StreamExt};
use keelstone_env::fault::{self, Point};
use keelstone_mvcc::Command;
use openraft::raft::{TransferLeaderError, TransferLeaderRequest};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    constants::{MESSAGE_BYTES_MAX, SNAPSHOT_CHUNK_TIME_MAX},
    convert::{self, Invalid},
    core::Core,
    gate,
    leadership::{Judgement, Witness},
    membership,
    network::snapshot_parts,
    peer::{self, peer_server::Peer, peer_server::PeerServer, snapshot_request::Part},
    peers::{CLUSTER_HEADER, MEMBER_HEADER},
    snapshot::{SnapshotHandle, Spool, Spooled},
    state_check,
    state_machine::applied_in,
    types::{Snapshot, SnapshotMeta, Vote},
    RaftError, RaftNode,
};

/// The service for the listener that members reach: add it to a tonic server.
pub type PeerService = PeerServer<PeerHandler>;

/// Answers the other members.
#[derive(Clone)]
pub struct PeerHandler {
    node: RaftNode,
}

pub(crate) fn service(node: RaftNode) -> PeerService {
    PeerServer::new(PeerHandler { node })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

impl From<Invalid> for Status {
    fn from(error: Invalid) -> Self {
        Status::invalid_argument(error.to_string())
    }
}

fn unavailable(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

fn refuse(error: RaftError) -> Status {
    match error {
        RaftError::NoLeader => Status::failed_precondition("not the leader"),
        other => unavailable(other),
    }
}

impl PeerHandler {
    /// Refuses what is meant for another cluster or another member.
    fn check<T>(&self, request: Request<T>) -> Result<T, Status> {
        let config = &self.node.core().config;
        let header =
            |name| request.metadata().get(name).and_then(|value| value.to_str().ok()).and_then(|v| v.parse().ok());
        if header(CLUSTER_HEADER) != Some(config.cluster_id) {
            return Err(Status::failed_precondition("cluster ID mismatch"));
        }
        if header(MEMBER_HEADER) != Some(config.id) {
            return Err(Status::failed_precondition("member ID mismatch"));
        }
        Ok(request.into_inner())
    }

    /// Refuses, besides, what would make a member take part that must not (yet).
    fn check_part<T>(&self, request: Request<T>) -> Result<T, Status> {
        let request = self.check(request)?;
        if !self.node.core().takes_part.load(Ordering::Acquire) {
            return Err(Status::unavailable("this member does not take part"));
        }
        Ok(request)
    }
}

/// Takes a whole snapshot into a file.
pub(crate) async fn receive(core: &Core, parts: &mut Streaming<peer::SnapshotRequest>) -> Result<Spooled, Status> {
    let (env, dir) = (core.env.clone(), core.incoming_dir());
    let mut spool = core.env.offload(move || Spool::create(&env, &dir)).await.map_err(unavailable)?;
    loop {
        match next_part(parts).await? {
            Some(Part::Chunk(chunk)) => {
                fault::pause(Point::SnapshotReceive).await;
                let pushed = core.env.offload(move || {
                    let mut spool = spool;
                    spool.push(&chunk).map(|()| spool)
                });
                spool = pushed.await.map_err(unavailable)?;
            }
            Some(Part::End(chunks)) if chunks == spool.chunks() => return Ok(spool.finish()),
            Some(Part::Head(_)) => return Err(Status::invalid_argument("a second head")),
            Some(Part::End(_)) | None => return Err(Status::data_loss("the snapshot is incomplete")),
        }
    }
}

/// The head that every snapshot begins with.
pub(crate) async fn receive_head(
    parts: &mut Streaming<peer::SnapshotRequest>,
) -> Result<(peer::SnapshotHead, SnapshotMeta), Status> {
    let Some(Part::Head(head)) = next_part(parts).await? else {
        return Err(Status::invalid_argument("the head is missing"));
    };
    let last_membership = convert::stored_membership_in(head.membership.clone().unwrap_or_default())?;
    let last_log_id = head.last_log_id.map(convert::log_id_in);
    if last_log_id.is_none() {
        return Err(Status::invalid_argument("the snapshot is of an empty log"));
    }
    Ok((head, SnapshotMeta { last_log_id, last_membership }))
}

async fn next_part(parts: &mut Streaming<peer::SnapshotRequest>) -> Result<Option<Part>, Status> {
    let next = tokio::time::timeout(SNAPSHOT_CHUNK_TIME_MAX, parts.message()).await;
    let next = next.map_err(|_| Status::deadline_exceeded("the next chunk did not come in time"))?;
    Ok(next?.and_then(|request| request.part))
}

#[tonic::async_trait]
impl Peer for PeerHandler {
    async fn vote(&self, request: Request<peer::VoteRequest>) -> Result<Response<peer::VoteResponse>, Status> {
        let request = convert::vote_request_in(self.check_part(request)?)?;
        let response = self.node.core().raft.vote(request).await.map_err(unavailable)?;
        Ok(Response::new(convert::vote_response_out(&response)))
    }

    async fn pre_vote(&self, request: Request<peer::VoteRequest>) -> Result<Response<peer::VoteResponse>, Status> {
        let request = convert::vote_request_in(self.check_part(request)?)?;
        let response = self.node.core().raft.pre_vote(request).await.map_err(unavailable)?;
        Ok(Response::new(convert::vote_response_out(&response)))
    }

    async fn append(&self, request: Request<peer::AppendRequest>) -> Result<Response<peer::AppendResponse>, Status> {
        let request = convert::append_in(self.check_part(request)?)?;
        let (previous, last) =
            (request.prev_log_id, request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id));
        let response = self.node.core().raft.append_entries(request).await.map_err(unavailable)?;
        Ok(Response::new(convert::append_result_out(&response.into_stream_result(previous, last))))
    }

    type AppendStreamStream = BoxStream<'static, Result<peer::AppendResponse, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<peer::AppendRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        // A message that cannot be read ends the stream, as a broken connection does.
        let requests = self.check_part(request)?.map_while_valid();
        let answers = self.node.core().raft.stream_append(requests);
        let answers = answers.map(|answer| match answer {
            Ok(result) => Ok(convert::append_result_out(&result)),
            Err(fatal) => Err(unavailable(fatal)),
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<peer::SnapshotRequest>>,
    ) -> Result<Response<peer::SnapshotResponse>, Status> {
        let mut parts = self.check_part(request)?;
        let (head, meta) = receive_head(&mut parts).await?;
        let vote = convert::vote_in(head.vote)?;
        // One at a time: a second one waits, and the first ends when its sender is gone.
        let _turn = self.node.receiving().lock().await;
        let spooled = receive(self.node.core(), &mut parts).await?;
        let snapshot = Snapshot { meta, snapshot: SnapshotHandle::Spooled(spooled) };
        let response = self.node.core().raft.install_full_snapshot(vote, snapshot).await.map_err(unavailable)?;
        Ok(Response::new(peer::SnapshotResponse { vote: Some(convert::vote_out(&response.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::TransferRequest>,
    ) -> Result<Response<peer::TransferResponse>, Status> {
        let request = self.check_part(request)?;
        let from = convert::vote_in(request.from_leader)?;
        let transfer = TransferLeaderRequest::new(from, request.to_node, request.last_log_id.map(convert::log_id_in));
        let response = self.node.core().raft.handle_transfer_leader(transfer).await.map_err(unavailable)?;
        Ok(Response::new(match response {
            Ok(()) => peer::TransferResponse { accepted: true, vote: None, flushed: None },
            Err(TransferLeaderError::VoteChanged { actual, .. }) => {
                peer::TransferResponse { accepted: false, vote: Some(convert::vote_out(&actual)), flushed: None }
            }
            Err(TransferLeaderError::LogNotFlushed { actual, .. }) => peer::TransferResponse {
                accepted: false,
                vote: None,
                flushed: actual.as_ref().map(convert::log_id_out),
            },
        }))
    }

    async fn forward(&self, request: Request<peer::ForwardRequest>) -> Result<Response<peer::ForwardResponse>, Status> {
        let commands = self.check(request)?.commands;
        // What is in the log must be readable on every member, or none of them could go on.
        if commands.iter().any(|command| Command::decode(command.clone()).is_err()) {
            return Err(Status::invalid_argument("a command cannot be read"));
        }
        let outcomes = gate::write(self.node.core(), commands).await;
        let outcomes = outcomes.into_iter().map(crate::outcome::Outcome::into_wire).collect();
        let applied_end = *self.node.core().progress.applied.borrow();
        Ok(Response::new(peer::ForwardResponse { outcomes, applied_end }))
    }

    async fn read_index(
        &self,
        request: Request<peer::ReadIndexRequest>,
    ) -> Result<Response<peer::ReadIndexResponse>, Status> {
        let peer::ReadIndexRequest { member, vote } = self.check(request)?;
        let core = self.node.core();
        // Of three members the one that asks is the one that is needed. Of more, or if it follows another, all who
        // wait share a round.
        if let Ok(vote) = convert::vote_in(vote) {
            match core.judge_leadership(vec![Witness { member, vote }]).await.map_err(refuse)? {
                Judgement::LedUpTo(index) => return Ok(Response::new(peer::ReadIndexResponse { index })),
                Judgement::NotLeading => return Err(refuse(RaftError::NoLeader)),
                Judgement::Unknown => {}
            }
        }
        let deadline = core.env.now() + core.config.timing.election_max * 2;
        let index = self.node.reads().index(true, deadline).await.map_err(refuse)?;
        Ok(Response::new(peer::ReadIndexResponse { index }))
    }

    async fn current_vote(
        &self,
        request: Request<peer::CurrentVoteRequest>,
    ) -> Result<Response<peer::CurrentVoteResponse>, Status> {
        self.check_part(request)?;
        let vote = self.node.core().own_vote().ok_or_else(|| unavailable("this member never voted"))?;
        Ok(Response::new(peer::CurrentVoteResponse { vote: Some(vote) }))
    }

    async fn describe(
        &self,
        request: Request<peer::DescribeRequest>,
    ) -> Result<Response<peer::DescribeResponse>, Status> {
        let core = self.node.core();
        if request.into_inner().confirmed {
            self.node.read_index().await.map_err(unavailable)?;
        }
        let applied = core.mvcc.applied();
        let membership = peer::StoredMembership::decode(applied.membership).map_err(unavailable)?;
        Ok(Response::new(peer::DescribeResponse {
            cluster_id: core.config.cluster_id,
            member_id: core.config.id,
            fresh: core.is_fresh(),
            applied: applied.index,
            membership: Some(membership),
            logged_membership: Some(convert::stored_membership_out(&core.logged_membership())),
        }))
    }

    async fn change_members(
        &self,
        request: Request<peer::ChangeMembersRequest>,
    ) -> Result<Response<peer::ChangeMembersResponse>, Status> {
        let change = membership::change_in(self.check(request)?);
        let change = change.ok_or_else(|| Status::invalid_argument("the change is missing"))?;
        let core = self.node.core();
        let changed = core.change_members_here(&change, core.deadline()).await;
        membership::changed_out(changed).map(Response::new)
    }

    async fn state_hashes(
        &self,
        request: Request<peer::StateHashesRequest>,
    ) -> Result<Response<peer::StateHashesResponse>, Status> {
        let indexes = self.check(request)?.indexes;
        Ok(Response::new(state_check::answer(self.node.core(), &indexes)))
    }

    type FetchStateStream = BoxStream<'static, Result<peer::SnapshotRequest, Status>>;

    async fn fetch_state(
        &self,
        request: Request<peer::FetchStateRequest>,
    ) -> Result<Response<Self::FetchStateStream>, Status> {
        let index = self.check(request)?.index;
        let core = self.node.core();
        if state_check::is_quarantined(core) {
            return Err(Status::unavailable("this member's own state is in doubt"));
        }
        core.wait_applied(index + 1, core.deadline()).await.map_err(refuse)?;
        let pinned = core.mvcc.pin().map_err(unavailable)?;
        let (last_log_id, last_membership) = applied_in(pinned.applied()).map_err(unavailable)?;
        let meta = SnapshotMeta { last_log_id, last_membership };
        let snapshot = Snapshot { meta, snapshot: SnapshotHandle::Pinned(Box::new(pinned)) };
        // Nobody's vote: this state is not a leader's word but applied entries.
        let parts = snapshot_parts(core.env.clone(), Vote::new(0, core.config.id), snapshot);
        Ok(Response::new(parts.map(Ok).boxed()))
    }

    async fn lease(&self, request: Request<peer::LeaseRequest>) -> Result<Response<peer::LeaseResponse>, Status> {
        let request = self.check(request)?;
        let deadline = self.node.core().env.now() + self.node.core().config.timing.election_max * 2;
        let lease = self.node.lease_here(request.id, request.renew, deadline).await.map_err(refuse)?;
        Ok(Response::new(match lease {
            None => peer::LeaseResponse::default(),
            Some((remaining, granted_s)) => {
                peer::LeaseResponse { found: true, remaining_s: seconds(remaining), granted_s }
            }
        }))
    }
}

/// Whole seconds.
pub(crate) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Readable append requests of a stream, up to the first that is not.
trait MapWhileValid {
    fn map_while_valid(self) -> BoxStream<'static, openraft::raft::AppendEntriesRequest<crate::types::TypeConfig>>;
}

impl MapWhileValid for Streaming<peer::AppendRequest> {
    fn map_while_valid(self) -> BoxStream<'static, openraft::raft::AppendEntriesRequest<crate::types::TypeConfig>> {
        futures::stream::unfold(self, |mut stream| async move {
            let request = stream.message().await.ok()??;
            match convert::append_in(request) {
                Ok(request) => Some((request, stream)),
                Err(error) => {
                    tracing::warn!(%error, "a member sent an append request that cannot be read");
                    None
                }
            }
        })
        .boxed()
    }
}
