//! What the tasks of one member share.

use std::{collections::BTreeMap, future::Future, io, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use keelstone_env::Env;
use keelstone_mvcc::Mvcc;
use keelstone_wal::Wal;
use openraft::{errors::ClientWriteError, raft::WriteResult};
use tokio::{sync::watch, time::Instant};

use crate::{
    gate::Gate,
    lease_clocks::LeaseClocks,
    outcome::Outcome,
    peers::{Client, Peers},
    state_machine::Progress,
    types::{Fatal, Proposal, Raft, TypeConfig},
    MemberInfo, RaftConfig, RaftError, RaftStatus,
};

pub(crate) struct Core {
    pub env: Env,
    pub config: RaftConfig,
    pub raft: Raft,
    pub mvcc: Arc<Mvcc>,
    pub wal: Wal,
    pub peers: Peers,
    pub gate: Gate,
    pub progress: Arc<Progress>,
    pub clocks: Arc<LeaseClocks>,
    pub status: watch::Sender<RaftStatus>,
}

/// Where the leader is.
pub(crate) enum Leader {
    Here,
    At(Client),
}

impl Core {
    /// Waits until a leader is known.
    ///
    /// # Errors
    /// `NoLeader` once `deadline` has passed; `Stopped` if this member had to stop.
    pub(crate) async fn leader(&self, deadline: Instant) -> Result<Leader, RaftError> {
        let mut status = self.status.subscribe();
        let known = status.wait_for(|status| status.leader.is_some() || status.failed.is_some());
        let Ok(known) = tokio::time::timeout_at(deadline, known).await else { return Err(RaftError::NoLeader) };
        let known = known.map_err(|_| RaftError::Stopped)?;
        if known.failed.is_some() {
            return Err(RaftError::Stopped);
        }
        if known.is_leader() {
            return Ok(Leader::Here);
        }
        let member = known.leader.and_then(|id| Some((id, known.members.get(&id)?)));
        let client = member.and_then(|(id, member)| self.peers.client(id, &member.peer_address).ok());
        client.map(Leader::At).ok_or(RaftError::NoLeader)
    }

    /// Puts commands into this member's log if it leads, by themselves; their outcomes come in order.
    pub(crate) async fn write_here(&self, commands: Vec<Bytes>) -> impl Stream<Item = Outcome> + Send {
        let count = commands.len();
        match self.raft.client_write_many(commands.into_iter().map(Proposal)).await {
            // Fused: whoever waits for one answer too many, because the member stopped, gets None again.
            Ok(results) => results.map(outcome).fuse().boxed(),
            // The log's task is gone: it never saw the commands.
            Err(_) => futures::stream::iter((0..count).map(|_| Outcome::NotLeader)).boxed(),
        }
    }

    /// Resolves when the leader is another than now, or the node is gone.
    pub(crate) fn leader_moves(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut status = self.status.subscribe();
        let leader = status.borrow().leader;
        async move { drop(status.wait_for(|status| status.leader != leader).await) }
    }

    pub(crate) fn term(&self) -> u64 {
        self.status.borrow().term
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.env.now() + self.config.timing.request_max
    }

    /// Waits until everything before `end` is applied here.
    pub(crate) async fn wait_applied(&self, end: u64, deadline: Instant) -> Result<(), RaftError> {
        let mut applied = self.progress.applied.subscribe();
        let reached = tokio::time::timeout_at(deadline, applied.wait_for(|applied| *applied >= end)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(RaftError::Stopped),
            Err(_) => Err(RaftError::Api(keelstone_etcd_api::ApiError::TimeoutWaitAppliedIndex)),
        }
    }

    pub(crate) fn members(&self) -> BTreeMap<u64, MemberInfo> {
        self.status.borrow().members.clone()
    }
}

fn outcome(result: Result<WriteResult<TypeConfig>, Fatal>) -> Outcome {
    match result {
        Ok(Ok(response)) => Outcome::Answered(response.response.0),
        // Refused before it was appended.
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => Outcome::NotLeader,
        // Appended, then cut from this log: another member may still have it and commit it.
        Ok(Err(error)) => Outcome::Unknown(error.to_string()),
        Err(fatal) => Outcome::Unknown(format!("the member stopped: {fatal}")),
    }
}

impl From<io::Error> for RaftError {
    fn from(error: io::Error) -> Self {
        Self::Fatal(error.to_string())
    }
}

impl From<keelstone_wal::WalError> for RaftError {
    fn from(error: keelstone_wal::WalError) -> Self {
        Self::Fatal(error.to_string())
    }
}

impl From<Fatal> for RaftError {
    fn from(fatal: Fatal) -> Self {
        match fatal {
            Fatal::Stopped => Self::Stopped,
            other => Self::Fatal(other.to_string()),
        }
    }
}
