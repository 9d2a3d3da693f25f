//! What the tasks of one member share.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        Arc,
    },
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use keelstone_env::{DiskLock, Env};
use keelstone_mvcc::Mvcc;
use keelstone_wal::Wal;
use openraft::{async_runtime::WatchReceiver, errors::ClientWriteError, raft::WriteResult};
use tokio::{
    sync::{watch, Mutex},
    time::Instant,
};

use crate::{
    gate::Gate,
    lease_clocks::LeaseClocks,
    outcome::Outcome,
    peers::{Client, Peers},
    state_machine::Progress,
    types::{Fatal, Proposal, Raft, StoredMembership, TypeConfig},
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
    /// False while this member must not vote or take entries: before it is sure that it never did, and after
    /// its removal.
    pub takes_part: AtomicBool,
    /// The member that was the first to confirm this one's leadership last time.
    pub first_witness: AtomicU64,
    /// Held by whoever changes the membership.
    pub changing: Mutex<()>,
    /// The data folder is this process's alone; empty after the shutdown.
    pub data_lock: std::sync::Mutex<Option<DiskLock>>,
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

    /// The last membership in the log, committed or not.
    pub(crate) fn logged_membership(&self) -> StoredMembership {
        (*self.raft.metrics().borrow_watched().membership_config).clone()
    }

    /// Resolves when the leader is another than now, or the node is gone.
    pub(crate) fn leader_moves(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut status = self.status.subscribe();
        let leader = status.borrow().leader;
        async move { drop(status.wait_for(|status| status.leader != leader).await) }
    }

    /// Says for good why this member does not go on.
    pub(crate) fn fail(&self, why: &str) {
        tracing::error!(member = format!("{:x}", self.config.id), why, "this member stops");
        self.status.send_modify(|status| {
            status.leader = None;
            status.failed.get_or_insert_with(|| why.to_owned());
        });
    }

    /// Takes part from now on, and forms the cluster of the first members. All of them do so, with the same
    /// membership, which gives the same first entry everywhere.
    pub(crate) async fn initialize(&self) -> Result<(), RaftError> {
        self.takes_part.store(true, Ordering::Release);
        if self.raft.is_initialized().await? {
            return Ok(());
        }
        match self.raft.initialize(self.config.members.clone()).await {
            Ok(()) => Ok(()),
            // Another member was faster.
            Err(openraft::errors::RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(RaftError::Fatal(format!("forming the cluster failed: {error}"))),
        }
    }

    /// Nothing was ever in this member's log.
    pub(crate) fn is_fresh(&self) -> bool {
        let log = self.wal.state();
        log.last.is_none() && log.purged.is_none() && self.mvcc.applied().log_id.is_empty()
    }

    pub(crate) fn term(&self) -> u64 {
        self.status.borrow().term
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.env.now() + self.config.timing.request_max
    }

    /// Waits until everything before `end` is applied here.
    pub(crate) async fn wait_applied(&self, end: u64, deadline: Instant) -> Result<(), RaftError> {
        // Mostly so: neither a timer nor a waiter is needed.
        if *self.progress.applied.borrow() >= end {
            return Ok(());
        }
        let mut applied = self.progress.applied.subscribe();
        let reached = tokio::time::timeout_at(deadline, applied.wait_for(|applied| *applied >= end)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(RaftError::Stopped),
            Err(_) => Err(RaftError::Api(keelstone_etcd_api::ApiError::TimeoutWaitAppliedIndex)),
        }
    }

    /// Where snapshots lie while they are received.
    pub(crate) fn incoming_dir(&self) -> std::path::PathBuf {
        self.config.data_dir.join("incoming")
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
