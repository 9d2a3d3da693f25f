use std::{
    collections::BTreeMap,
    io,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        Arc, Mutex, PoisonError,
    },
    time::Duration,
};

use keelstone_env::fault::{self, Point};
use keelstone_env::Env;
use keelstone_etcd_api::ApiError;
use keelstone_mvcc::{Caller, Command, LeaseInfo, Mvcc, Op, Response};
use keelstone_wal::{Wal, WalOptions};
use openraft::{ChangeMembers, Config, SnapshotPolicy};
use prost::Message;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    autopilot,
    constants::{APPEND_ENTRIES_MAX, APPLY_BATCH_MAX, PROPOSALS_QUEUED_MAX},
    core::{Core, Leader},
    data_dir::{lock_data_dir, DataOwner},
    features, follow,
    gate::Gate,
    lease_clocks::LeaseClocks,
    lease_expiry,
    log_store::LogStore,
    maintenance,
    network::Network,
    peer,
    peers::Peers,
    presence,
    proposer::{Pending, Proposer},
    reads::Reads,
    repair,
    service::{self, PeerService},
    snapshot, state_check,
    state_machine::{Progress, StateMachine},
    types::Raft,
    MemberChange, MemberChanged, MemberInfo, RaftConfig, RaftError, RaftStatus,
};

/// How long a transfer of leadership may take at shutdown before the member goes without.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(1);

/// One member of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct RaftNode {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    proposals: mpsc::Sender<Pending>,
    reads: Reads,
    /// Held while a snapshot is received.
    receiving: tokio::sync::Mutex<()>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl RaftNode {
    /// Opens the log, applies what is known to be committed, and takes part in the cluster. The peer service
    /// must be served for the others to answer. Nothing is served to clients before this returns, so that no
    /// read sees a state older than one that was read before a restart.
    ///
    /// # Errors
    /// If the log or the state cannot be read, do not belong together, or the configuration is invalid.
    pub async fn start(env: Env, config: RaftConfig, mvcc: Arc<Mvcc>) -> Result<Self, RaftError> {
        let options = openraft_config(&config)?;
        let data_lock = lock_data_dir(&env, &config.data_dir).await?;
        let (owner, disk, dir) = (DataOwner::new(config.cluster_id, config.id), env.clone(), config.data_dir.clone());
        env.offload(move || owner.claim(&disk, &dir)).await?;
        let mut wal_options = WalOptions::new(config.data_dir.join("wal"));
        wal_options.segment_bytes_max = config.limits.segment_bytes_max;
        let wal = Wal::open(env.clone(), wal_options).await?;
        let incoming = config.data_dir.join("incoming");
        let leftovers = env.clone();
        env.offload(move || snapshot::remove_leftovers(&leftovers, &incoming)).await?;

        let progress = Arc::new(Progress::new(&mvcc, config.limits.flush_bytes));
        let log = LogStore::new(wal.clone());
        let mut machine = StateMachine::new(env.clone(), Arc::clone(&mvcc), wal.clone(), Arc::clone(&progress));
        replay(&log, &mut machine).await?;
        let clocks = Arc::new(LeaseClocks::new(env.clone()));
        let observer = Arc::clone(&clocks);
        mvcc.observe_leases(Arc::new(move |event| observer.observe(event)));

        let peers = Peers::new(&env, &config)?;
        let network = Network { env: env.clone(), peers: peers.clone() };
        let raft = Raft::new(config.id, Arc::new(options), network, log, machine).await?;
        let status = watch::Sender::new(RaftStatus { id: config.id, ..RaftStatus::default() });
        let core = Arc::new(Core {
            env,
            config,
            raft,
            mvcc,
            wal,
            peers,
            gate: Gate::default(),
            progress,
            clocks,
            status,
            takes_part: AtomicBool::new(false),
            first_witness: AtomicU64::new(0),
            changing: tokio::sync::Mutex::new(()),
            data_lock: Mutex::new(Some(data_lock)),
        });
        // A first member without a log must make sure first that it never had one.
        if !core.config.bootstrap || !core.is_fresh() {
            core.takes_part.store(true, Ordering::Release);
        } else if core.config.members.len() == 1 {
            core.initialize().await?;
        }
        Ok(Self::spawn(core))
    }

    fn spawn(core: Arc<Core>) -> Self {
        let env = core.env.clone();
        let (proposals, queue) = mpsc::channel(PROPOSALS_QUEUED_MAX);
        let proposer = Proposer::new(Arc::clone(&core), proposals.downgrade());
        let (reads, reading) = Reads::start(Arc::clone(&core));
        let tasks = vec![
            reading,
            env.spawn(follow::run(Arc::clone(&core))),
            env.spawn(proposer.run(queue)),
            env.spawn(lease_expiry::run(Arc::clone(&core))),
            env.spawn(maintenance::run(Arc::clone(&core))),
            env.spawn(presence::run(Arc::clone(&core))),
            env.spawn(autopilot::run(Arc::clone(&core))),
            env.spawn(state_check::run(Arc::clone(&core))),
            env.spawn(repair::run(Arc::clone(&core))),
        ];
        let receiving = tokio::sync::Mutex::new(());
        Self { inner: Arc::new(Inner { core, proposals, reads, receiving, tasks: Mutex::new(tasks) }) }
    }

    /// The service that the other members call.
    pub fn peer_service(&self) -> PeerService {
        service::service(self.clone())
    }

    /// Replicates a command and applies it; `op` must have passed `keelstone_mvcc::check`. Any member takes
    /// it: a follower passes it on. Batched with others; never tried again once a leader may have it.
    pub async fn propose(&self, op: Op) -> Result<Response, RaftError> {
        self.propose_for(op, None).await
    }

    /// As [`RaftNode::propose`], on behalf of a client, whose permissions are checked when it is applied.
    pub async fn propose_for(&self, op: Op, caller: Option<Caller>) -> Result<Response, RaftError> {
        let core = self.core();
        let level = features::of_command(&op);
        if core.status.borrow().feature_level < level {
            core.require_level(level).await?;
        }
        // A leader hands over as soon as it can; alone, it has to say so.
        if core.wal.health().full && core.status.borrow().is_leader() {
            return Err(RaftError::Api(ApiError::NoSpace));
        }
        let command = Command { proposer_term: core.term(), op: Some(op), caller }.encode_to_vec().into();
        let (reply, result) = oneshot::channel();
        let pending = Pending { command, deadline: core.deadline(), reply };
        self.inner.proposals.try_send(pending).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RaftError::Api(ApiError::TooManyRequests),
            mpsc::error::TrySendError::Closed(_) => RaftError::Stopped,
        })?;
        result.await.map_err(|_| RaftError::Unknown("the member stopped".into()))?
    }

    /// Returns once everything that was committed before the call is applied here: a read of the local state
    /// is linearizable then. All calls that wait share one round with the leader and its quorum.
    pub async fn read_index(&self) -> Result<(), RaftError> {
        let deadline = self.core().deadline();
        let end = self.inner.reads.index(false, deadline).await?;
        self.core().wait_applied(end, deadline).await
    }

    pub fn status(&self) -> RaftStatus {
        self.core().status.borrow().clone()
    }

    /// Every entry before this index was durable on this member, in its log or in the state that replaced it, also
    /// if the log has failed since.
    pub fn durable_end(&self) -> u64 {
        self.core().wal.durable_end()
    }

    /// Wakes when the leader, the term, the membership or the failure changes; the indexes are always new, but
    /// wake nobody.
    pub fn status_watch(&self) -> watch::Receiver<RaftStatus> {
        self.core().status.subscribe()
    }

    /// Starts a lease's time anew; returns its granted time to live in seconds, 0 if there is no such lease.
    /// Acknowledged only by a leader that a quorum confirmed after the call.
    pub async fn lease_keep_alive(&self, id: i64) -> Result<i64, RaftError> {
        Ok(self.lease(id, true).await?.map_or(0, |(_, granted_s)| granted_s))
    }

    /// Remaining and granted time of a lease in seconds; `None` if there is no such lease.
    pub async fn lease_time_to_live(&self, id: i64) -> Result<Option<(i64, i64)>, RaftError> {
        self.lease(id, false).await
    }

    /// All leases as of now, those that end first at the beginning if this member leads.
    pub fn leases(&self) -> Vec<LeaseInfo> {
        let mut leases = self.core().mvcc.leases();
        self.core().clocks.sort(&mut leases);
        leases
    }

    async fn lease(&self, id: i64, renew: bool) -> Result<Option<(i64, i64)>, RaftError> {
        let core = self.core();
        let deadline = core.deadline();
        loop {
            match core.leader(deadline).await? {
                Leader::Here => match self.lease_here(id, renew, deadline).await {
                    Ok(lease) => {
                        return Ok(lease.map(|(remaining, granted_s)| (service::seconds(remaining), granted_s)))
                    }
                    Err(RaftError::NoLeader) if core.env.now() < deadline => {}
                    Err(error) => return Err(error),
                },
                Leader::At(mut client) => {
                    let limit = (core.env.now() + core.config.timing.election_max * 2).min(deadline);
                    let call = client.lease(peer::LeaseRequest { id, renew });
                    if let Ok(Ok(response)) = tokio::time::timeout_at(limit, call).await {
                        let lease = response.into_inner();
                        return Ok(lease.found.then_some((lease.remaining_s, lease.granted_s)));
                    }
                }
            }
            // Renewing twice is as good as once, so this is safe to repeat.
            tokio::time::sleep(Duration::from_millis(10)).await;
            if core.env.now() >= deadline {
                return Err(RaftError::NoLeader);
            }
        }
    }

    /// The leader's side of [`RaftNode::lease_keep_alive`]: remaining and granted time.
    pub(crate) async fn lease_here(
        &self,
        id: i64,
        renew: bool,
        deadline: Instant,
    ) -> Result<Option<(Duration, i64)>, RaftError> {
        let core = self.core();
        let end = self.inner.reads.index(true, deadline).await?;
        core.wait_applied(end, deadline).await?;
        fault::pause(Point::LeaseRenew).await;
        let Some(lease) = core.mvcc.lease(id) else { return Ok(None) };
        if renew && !core.clocks.renew(lease) {
            // Being revoked, or this member leads no more; in the latter case the next leader decides.
            return if core.status.borrow().is_leader() { Ok(None) } else { Err(RaftError::NoLeader) };
        }
        let remaining = core.clocks.remaining(lease).ok_or(RaftError::NoLeader)?;
        Ok(Some((remaining, lease.ttl_s)))
    }

    /// Asks `to` to take over; only the leader can. Returns once another member leads.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), RaftError> {
        let core = self.core();
        if !core.status.borrow().is_leader() {
            return Err(RaftError::Api(ApiError::NotLeader));
        }
        if !core.status.borrow().voters.contains(&to) {
            return Err(RaftError::Api(ApiError::BadLeaderTransferee));
        }
        if to == core.config.id {
            return Ok(());
        }
        core.raft.trigger().transfer_leader(to).await?;
        let mut status = core.status.subscribe();
        let id = core.config.id;
        let moved = async { status.wait_for(|status| status.leader.is_some_and(|leader| leader != id)).await.is_ok() };
        match tokio::time::timeout(core.config.timing.request_max, moved).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(RaftError::Stopped),
            Err(_) => Err(RaftError::Api(ApiError::TimeoutLeaderFail)),
        }
    }

    /// Adds a member that does not vote; returns once the log knows it. Only the leader can.
    pub async fn add_learner(&self, id: u64, member: MemberInfo) -> Result<(), RaftError> {
        if self.core().members().contains_key(&id) {
            return Err(RaftError::Api(ApiError::MemberExists));
        }
        self.change_at_once(ChangeMembers::AddNodes(BTreeMap::from([(id, member)]))).await
    }

    /// Replaces the set of voters; members that are left out are removed. Only the leader can.
    pub async fn change_voters(&self, voters: impl IntoIterator<Item = u64>) -> Result<(), RaftError> {
        self.change_at_once(ChangeMembers::ReplaceAllVoters(voters.into_iter().collect())).await
    }

    /// Without the rules of [`RaftNode::change_members`].
    async fn change_at_once(&self, changes: ChangeMembers<u64, MemberInfo>) -> Result<(), RaftError> {
        let core = self.core();
        let _turn = core.changing.lock().await;
        match core.commit_membership(changes, core.deadline()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(RaftError::Api(ApiError::NotEnoughStarted)),
            Err(RaftError::NoLeader) => Err(RaftError::Api(ApiError::NotLeader)),
            Err(error) => Err(error),
        }
    }

    /// Changes the membership by etcd's rules; any member takes it. Returns once it is committed and can be
    /// seen here.
    ///
    /// # Errors
    /// etcd's, if the change is not allowed; nothing was changed then.
    pub async fn change_members(&self, change: MemberChange) -> Result<MemberChanged, RaftError> {
        self.core().change_members(change).await
    }

    /// Hands leadership over if this member has it, makes everything durable, and ends all tasks.
    pub async fn shutdown(&self) {
        let core = self.core();
        self.hand_over().await;
        for task in self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        if let Err(error) = core.raft.shutdown().await {
            tracing::warn!(%error, "the log's task did not end cleanly");
        }
        let mvcc = Arc::clone(&core.mvcc);
        if let Err(error) = core.env.offload(move || mvcc.flush()).await {
            tracing::error!(%error, "the last flush failed; the log has what is missing");
        }
        if let Err(error) = core.wal.sync().await {
            tracing::error!(%error, "the log's last sync failed");
        }
        core.data_lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Gives leadership to the voter that has most of the log.
    async fn hand_over(&self) {
        use openraft::async_runtime::WatchReceiver;
        let core = self.core();
        if !core.status.borrow().is_leader() {
            return;
        }
        let best = {
            let voters = core.status.borrow().voters.clone();
            let metrics = core.raft.metrics();
            let metrics = metrics.borrow_watched();
            let replication = metrics.replication.iter().flatten();
            let others = replication.filter(|(id, _)| **id != core.config.id && voters.contains(id));
            others.max_by_key(|(_, log_id)| **log_id).map(|(id, _)| *id)
        };
        let Some(best) = best else { return };
        match tokio::time::timeout(TRANSFER_TIME_MAX, self.transfer_leader(best)).await {
            Ok(Ok(())) => tracing::info!(to = best, "leadership handed over"),
            Ok(Err(_)) | Err(_) => tracing::info!("leadership could not be handed over; the others will elect"),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    pub(crate) fn reads(&self) -> &Reads {
        &self.inner.reads
    }

    pub(crate) fn receiving(&self) -> &tokio::sync::Mutex<()> {
        &self.inner.receiving
    }
}

/// Applies what the log knows to be committed, before anything is served.
async fn replay(log: &LogStore, machine: &mut StateMachine) -> io::Result<()> {
    let Some(committed) = log.committed()? else { return Ok(()) };
    let mut next = machine.applied()?.map_or(0, |applied| applied.index() + 1);
    let first = log.purged()?.map_or(0, |purged| purged.index() + 1);
    if next < first {
        let message = format!("entries {next} to {} are neither applied nor in the log", first - 1);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    if next <= committed.index() {
        tracing::info!(from = next, through = committed.index(), "applying the committed part of the log");
    }
    while next <= committed.index() {
        let end = (committed.index() + 1).min(next + APPLY_BATCH_MAX as u64);
        let entries = log.entries(next, end, Some(crate::constants::APPLY_BATCH_BYTES_MAX as u64)).await?;
        let Some(last) = entries.last() else {
            let message = format!("entry {next} is committed but missing");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        next = last.log_id.index() + 1;
        machine.replay(entries).await?;
    }
    Ok(())
}

fn openraft_config(config: &RaftConfig) -> Result<Config, RaftError> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: format!("{:x}", config.cluster_id),
        heartbeat_interval: ms(config.timing.heartbeat),
        election_timeout_min: ms(config.timing.election_min),
        election_timeout_max: ms(config.timing.election_max),
        max_payload_entries: APPEND_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::Never,
        // The log is purged when the state is durable, not when a snapshot was taken.
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(true),
        // A leader sends entries before its own log has them on disk. After a crash it would take its old term
        // up again and give other entries the ids of those that it lost and that the others have committed.
        enable_leader_restore: Some(false),
        ..Config::default()
    }
    .validate()
    .map_err(|error| RaftError::Fatal(format!("the timings make no sense: {error}")))
}
