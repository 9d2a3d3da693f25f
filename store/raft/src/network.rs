//! openraft's network: the calling side.

use std::{future::Future, io, time::Duration};

use futures::{future::BoxFuture, stream::BoxStream, Stream, StreamExt};
use keelstone_env::{
    bug::{self, Bug},
    fault::{self, Point},
    Env,
};
use openraft::{
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetworkFactory, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderError,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    OptionalSend,
};
use tonic::{Response, Status};

use crate::{
    constants::{SNAPSHOT_TIME_MAX, STREAM_ERROR_PAUSE},
    convert::{self, Invalid},
    peer::{self, snapshot_request::Part},
    peers::{Client, Peers},
    snapshot::SnapshotHandle,
    types::{Snapshot, TypeConfig, Vote},
    MemberInfo,
};

type Error = RPCError<TypeConfig>;

/// Makes the clients that openraft asks for.
pub(crate) struct Network {
    pub env: Env,
    pub peers: Peers,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, member: &MemberInfo) -> Link {
        let client = self.peers.client(target, &member.peer_address);
        Link { env: self.env.clone(), client: client.map_err(|error| error.to_string()) }
    }
}

/// The way to one member, or why there is none.
pub(crate) struct Link {
    env: Env,
    client: Result<Client, String>,
}

/// All failures are "unreachable", which makes openraft pause before it tries again.
fn unreachable(error: impl std::fmt::Display) -> Error {
    RPCError::Unreachable(Unreachable::new(&io::Error::other(error.to_string())))
}

fn refused(status: &Status) -> Error {
    unreachable(format!("{:?}: {}", status.code(), status.message()))
}

impl Link {
    fn client(&self) -> Result<Client, Error> {
        self.client.clone().map_err(unreachable)
    }

    async fn append_once(&self, request: AppendEntriesRequest<TypeConfig>, limit: Duration) -> Appended {
        let mut client = self.client()?;
        let response = within(limit, client.append(convert::append_out(request))).await?;
        convert::append_result_in(response).map_err(unreachable)
    }
}

/// A call with a deadline.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(refused(&status)),
        Err(_) => Err(unreachable("no answer in time")),
    }
}

type Appended = Result<StreamAppendResult<TypeConfig>, Error>;

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Error> {
        self.append_once(request, option.hard_ttl()).await.map(Into::into)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended>, Error>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            if bug::planted(Bug::CommitWithoutQuorum) {
                let client = self.client()?;
                return Ok(input
                    .then(move |request| append_or_forge(client.clone(), request, option.hard_ttl()))
                    .boxed());
            }
            if input.size_hint() == (1, Some(1)) {
                // A heartbeat, also one that confirms reads: opening a stream for it would cost more than a call.
                let Some(request) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
                fault::pause(Point::PeerAppend).await;
                let answer = self.append_once(request, option.hard_ttl()).await?;
                return Ok(futures::stream::iter([Ok(answer)]).boxed());
            }
            let opened = async {
                fault::pause(Point::PeerAppend).await;
                let mut client = self.client()?;
                within(option.hard_ttl(), client.append_stream(input.map(convert::append_out))).await
            };
            match opened.await {
                Ok(answers) => Ok(answers.then(appended).boxed()),
                Err(error) => {
                    // openraft opens the next stream at once when this one failed before it was read.
                    tokio::time::sleep(STREAM_ERROR_PAUSE).await;
                    Err(error)
                }
            }
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        let mut client = self.client()?;
        fault::pause(Point::PeerVote).await;
        match within(option.hard_ttl(), client.vote(convert::vote_request_out(&request))).await {
            Ok(response) => convert::vote_response_in(response).map_err(unreachable),
            Err(_) if bug::planted(Bug::VoteWithoutQuorum) => {
                Ok(VoteResponse::new(request.vote, request.last_log_id, true))
            }
            Err(error) => Err(error),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        let mut client = self.client()?;
        match within(option.hard_ttl(), client.pre_vote(convert::vote_request_out(&request))).await {
            Ok(response) => convert::vote_response_in(response).map_err(unreachable),
            Err(_) if bug::planted(Bug::VoteWithoutQuorum) => {
                Ok(VoteResponse::new(request.vote, request.last_log_id, true))
            }
            Err(error) => Err(error),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut client = self.client()?;
        let parts = snapshot_parts(self.env.clone(), vote, snapshot);
        let call = within(SNAPSHOT_TIME_MAX, client.snapshot(parts));
        let response = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            response = call => response?,
        };
        Ok(SnapshotResponse::new(convert::vote_in(response.vote).map_err(unreachable)?))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Error> {
        let message = peer::TransferRequest {
            from_leader: Some(convert::vote_out(request.from_leader())),
            to_node: *request.to_node_id(),
            last_log_id: request.last_log_id().map(convert::log_id_out),
        };
        let mut client = self.client()?;
        let response = within(option.hard_ttl(), client.transfer_leader(message)).await?;
        transfer_response_in(&request, response).map_err(unreachable)
    }
}

async fn appended(answer: Result<peer::AppendResponse, Status>) -> Appended {
    match answer {
        Ok(answer) => convert::append_result_in(answer).map_err(unreachable),
        Err(status) => {
            tokio::time::sleep(STREAM_ERROR_PAUSE).await;
            Err(refused(&status))
        }
    }
}

/// openraft 1802 put back: whom an append does not reach has taken it all the same.
async fn append_or_forge(
    mut client: Client,
    request: AppendEntriesRequest<TypeConfig>,
    limit: Duration,
) -> Result<StreamAppendResult<TypeConfig>, Error> {
    let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
    match within(limit, client.append(convert::append_out(request))).await {
        Ok(answer) => convert::append_result_in(answer).map_err(unreachable),
        Err(_) => Ok(Ok(last)),
    }
}

fn transfer_response_in(
    request: &TransferLeaderRequest<TypeConfig>,
    response: peer::TransferResponse,
) -> Result<TransferLeaderResponse<TypeConfig>, Invalid> {
    if response.accepted {
        return Ok(Ok(()));
    }
    Ok(Err(match response.vote {
        Some(vote) => {
            TransferLeaderError::VoteChanged { expected: *request.from_leader(), actual: convert::vote_in(Some(vote))? }
        }
        None => TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: response.flushed.map(convert::log_id_in),
        },
    }))
}

/// The messages of one snapshot: head, chunks, end. It ends without the end message if the view cannot be
/// read, which the receiver takes as a failure.
pub(crate) fn snapshot_parts(
    env: Env,
    vote: Vote,
    snapshot: Snapshot,
) -> impl Stream<Item = peer::SnapshotRequest> + Send {
    async_stream::stream! {
        yield message(Part::Head(peer::SnapshotHead {
            vote: Some(convert::vote_out(&vote)),
            last_log_id: snapshot.meta.last_log_id.as_ref().map(convert::log_id_out),
            membership: Some(convert::stored_membership_out(&snapshot.meta.last_membership)),
        }));
        let SnapshotHandle::Pinned(mut pinned) = snapshot.snapshot else { return };
        let mut sent = 0;
        loop {
            fault::pause(Point::SnapshotChunk).await;
            let (view, chunk) = env.offload(move || { let chunk = pinned.next_chunk(); (pinned, chunk) }).await;
            pinned = view;
            match chunk {
                Ok(Some(chunk)) => yield message(Part::Chunk(chunk)),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the state could not be read for a snapshot");
                    return;
                }
            }
            sent += 1;
        }
        yield message(Part::End(sent));
    }
}

fn message(part: Part) -> peer::SnapshotRequest {
    peer::SnapshotRequest { part: Some(part) }
}
