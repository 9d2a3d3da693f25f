use std::{
    future::Future,
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        Arc,
    },
    time::Duration,
};

use keelstone_env::Env;
use keelstone_etcd_api::{pb, ApiError};
use keelstone_mvcc::{Caller, Mvcc, Op, Response};
use keelstone_raft::{RaftError, RaftNode, RaftStatus};
use tokio::sync::{watch, Mutex};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{Admission, Admitted},
    auth::{Authenticator, Credentials},
    constants::APPLY_LAG_ENTRIES_MAX,
    coordination::Waiting,
    metered::Meters,
    method::{Method, Need},
    metrics::Metrics,
};

/// What of a configuration the services need.
#[derive(Clone, Debug)]
pub(crate) struct ServiceLimits {
    pub request_time_max: Duration,
    pub election_max: Duration,
    pub lease_ttl_s_min: i64,
    pub txn_ops_max: usize,
    pub request_bytes_max: usize,
    pub quota_bytes: u64,
    pub history_retention: Option<Duration>,
    pub watch_progress_interval: Duration,
}

/// One running member, as its services see it: the state machine, the log and the bounds. The operations
/// themselves are in [`crate::ops`].
pub(crate) struct Member {
    pub env: Env,
    pub mvcc: Arc<Mvcc>,
    pub raft: RaftNode,
    pub cluster_id: u64,
    pub member_id: u64,
    pub limits: ServiceLimits,
    pub metrics: Metrics,
    pub admission: Admission,
    pub auth: Authenticator,
    /// Bounds those who wait for a lock or a leadership.
    pub waiting: Waiting,
    /// Cancelled at shutdown: streams end with a retryable error.
    pub stopping: CancellationToken,
    /// Cancelled when the other members are to be served no longer.
    pub peers_stopping: CancellationToken,
    /// A place for each snapshot that is being sent to a client.
    pub snapshots: Arc<tokio::sync::Semaphore>,
    /// How far the backup is, if one is kept.
    pub backup: std::sync::Mutex<Option<watch::Receiver<keelstone_backup::archive::Progress>>>,
    /// This member's state was found to be damaged: nothing of it is served until it is repaired.
    pub quarantined: AtomicBool,
    /// Held by whoever compacts physically.
    pub compaction: Mutex<()>,
    /// Held while space is given back.
    pub reclaiming: Arc<Mutex<()>>,
    status: watch::Receiver<RaftStatus>,
    /// False once no quorum has answered for a while; see [`crate::quorum`].
    pub quorum: watch::Sender<bool>,
}

impl Member {
    pub fn new(
        env: Env,
        mvcc: Arc<Mvcc>,
        raft: RaftNode,
        (cluster_id, member_id): (u64, u64),
        limits: ServiceLimits,
        (meters, auth): (Arc<Meters>, Authenticator),
    ) -> Self {
        let status = raft.status_watch();
        Self {
            env,
            mvcc,
            raft,
            cluster_id,
            member_id,
            limits,
            metrics: Metrics::new(meters),
            admission: Admission::default(),
            auth,
            waiting: Waiting::default(),
            stopping: CancellationToken::new(),
            peers_stopping: CancellationToken::new(),
            snapshots: Arc::new(tokio::sync::Semaphore::new(crate::constants::SNAPSHOTS_MAX)),
            backup: std::sync::Mutex::default(),
            quarantined: AtomicBool::new(false),
            compaction: Mutex::default(),
            reclaiming: Arc::default(),
            status,
            quorum: watch::Sender::new(true),
        }
    }

    /// The header of a response at `revision`.
    pub fn header(&self, revision: i64) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.status.borrow().term,
        }
    }

    /// A header for a response that carries only a revision so far, or nothing.
    pub fn fill_header(&self, header: &mut Option<pb::ResponseHeader>) {
        let revision = header.as_ref().map_or_else(|| self.mvcc.revision(), |header| header.revision);
        *header = Some(self.header(revision));
    }

    /// What this member last knew of its cluster. A leader that has lost its quorum is none: Raft keeps it in
    /// office until it hears of another, its clients must not wait for that.
    pub fn status(&self) -> RaftStatus {
        let mut status = self.status.borrow().clone();
        status.leader = status.leader.filter(|_| *self.quorum.borrow());
        status
    }

    pub fn status_watch(&self) -> watch::Receiver<RaftStatus> {
        self.status.clone()
    }

    /// # Errors
    /// `no leader` if none is known; `server stopped` at shutdown.
    pub fn require_leader(&self) -> Result<(), ApiError> {
        if self.stopping.is_cancelled() {
            return Err(ApiError::Stopped);
        }
        let led = *self.quorum.borrow() && self.status.borrow().leader.is_some();
        led.then_some(()).ok_or(ApiError::NoLeader)
    }

    /// Whether this member serves `method` at all: a learner answers for itself and from what it has, a member
    /// whose state is in doubt only about its condition.
    ///
    /// # Errors
    /// etcd's, if not.
    pub fn serves(&self, method: Method) -> Result<(), ApiError> {
        let of_itself = [Method::Status, Method::Alarm, Method::MemberList, Method::Hash, Method::HashKv];
        if self.quarantined.load(Relaxed) && !of_itself.contains(&method) {
            return Err(ApiError::Corrupt);
        }
        // Whether a range is serializable shows further in: a linearizable one is refused there.
        if self.status.borrow().is_learner && !matches!(method, Method::Status | Method::Range | Method::Snapshot) {
            return Err(ApiError::NotSupportedForLearner);
        }
        Ok(())
    }

    /// Takes a place for a request of so many bytes, or refuses it.
    pub fn admit(&self, bytes: usize) -> Result<Admitted, ApiError> {
        if self.stopping.is_cancelled() {
            return Err(ApiError::Stopped);
        }
        self.admission.admit(bytes)
    }

    /// On whose behalf a call is made; `None` for the store itself. While auth is off nothing is looked at: a
    /// caller without a name is refused by the state machine, should auth be on by then.
    ///
    /// # Errors
    /// `invalid auth token`.
    pub fn caller(&self, credentials: &Credentials) -> Result<Option<Caller>, ApiError> {
        if credentials.is_internal() {
            return Ok(None);
        }
        if !self.mvcc.auth_enabled() {
            return Ok(Some(Caller::default()));
        }
        self.auth.caller(&self.env, &self.mvcc.auth(), credentials).map(Some)
    }

    /// Refuses who may not call a method at all, whatever it asks for.
    pub fn allow(&self, method: Method, credentials: &Credentials) -> Result<(), ApiError> {
        let need = method.need();
        if need == Need::Nothing || !self.mvcc.auth_enabled() {
            return Ok(());
        }
        let caller = self.caller(credentials)?;
        match need {
            Need::Root => self.mvcc.auth().check_root(caller.as_ref()),
            Need::Known => self.mvcc.auth().check_known(caller.as_ref()),
            Need::Nothing => Ok(()),
        }
    }

    /// Replicates a command of the store itself and waits until it is applied.
    pub async fn propose(&self, op: Op) -> Result<Response, RaftError> {
        self.propose_for(op, &Credentials::INTERNAL).await
    }

    /// Replicates a command and waits until it is applied. What its client may do is checked then.
    pub async fn propose_for(&self, op: Op, credentials: &Credentials) -> Result<Response, RaftError> {
        if self.quarantined.load(Relaxed) && !matches!(op, Op::Alarm(_)) {
            return Err(ApiError::Corrupt.into());
        }
        {
            let status = self.status.borrow();
            if status.is_learner {
                return Err(ApiError::NotSupportedForLearner.into());
            }
            if status.committed > status.applied.saturating_add(APPLY_LAG_ENTRIES_MAX) {
                return Err(ApiError::TooManyRequests.into());
            }
        }
        self.mvcc.check_quota(&op)?;
        let caller = self.caller(credentials)?;
        self.metrics.proposals_pending.fetch_add(1, Relaxed);
        let late = || RaftError::Unknown("the request timed out".into());
        let result = self.within(self.raft.propose_for(op, caller), late).await;
        self.metrics.proposals_pending.fetch_sub(1, Relaxed);
        if matches!(&result, Err(error) if !matches!(error, RaftError::Api(_))) {
            self.metrics.proposals_failed.fetch_add(1, Relaxed);
        }
        result
    }

    /// Waits until everything that was committed before this call can be read here.
    pub async fn read_index(&self) -> Result<(), RaftError> {
        if self.status.borrow().is_learner {
            return Err(ApiError::NotSupportedForLearner.into());
        }
        let result = self.within(self.raft.read_index(), || RaftError::Timeout).await;
        if result.is_err() {
            self.metrics.read_indexes_failed.fetch_add(1, Relaxed);
        }
        result
    }

    /// The bound that keeps a request from hanging whatever it waits for.
    pub async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, RaftError>>,
        late: impl FnOnce() -> RaftError,
    ) -> Result<T, RaftError> {
        match tokio::time::timeout(self.limits.request_time_max, work).await {
            Ok(result) => result,
            Err(_) => Err(late()),
        }
    }
}
