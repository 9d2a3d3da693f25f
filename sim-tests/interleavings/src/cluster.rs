use std::sync::{
    atomic::{AtomicU64, Ordering::Relaxed},
    Arc,
};

use futures::{future::BoxFuture, FutureExt};
use keelstone_checkers::Ending;
use keelstone_etcd_api::pb;
use keelstone_mvcc::{Op, Response};
use keelstone_raft::{MemberChange, MemberChanged, RaftError};
use madsim::time::TimeHandle;
use tokio::sync::oneshot;

use crate::member::{Life, Member};

/// Why a call had no good end.
#[derive(Clone, Debug)]
pub struct CallError {
    /// It may have been carried out.
    pub unknown: bool,
    pub text: String,
}

impl CallError {
    pub fn ending(&self) -> Ending {
        if self.unknown {
            Ending::Unknown
        } else {
            Ending::Failed
        }
    }
}

impl From<RaftError> for CallError {
    fn from(error: RaftError) -> Self {
        Self { unknown: error.outcome_unknown(), text: error.to_string() }
    }
}

impl From<keelstone_etcd_api::ApiError> for CallError {
    fn from(error: keelstone_etcd_api::ApiError) -> Self {
        Self { unknown: false, text: error.to_string() }
    }
}

/// A client: it speaks to one member, until it is told to go on to the next one.
#[derive(Clone)]
pub struct Client {
    members: Arc<Vec<Arc<Member>>>,
    current: Arc<AtomicU64>,
}

impl Client {
    pub fn new(members: &[Arc<Member>], first: u64) -> Self {
        Self { members: Arc::new(members.to_vec()), current: Arc::new(AtomicU64::new(first)) }
    }

    /// The member that it speaks to.
    pub fn member(&self) -> &Arc<Member> {
        &self.members[self.current.load(Relaxed) as usize % self.members.len()]
    }

    pub fn go_on(&self) {
        self.current.fetch_add(1, Relaxed);
    }

    pub async fn propose(&self, op: Op) -> Result<Response, CallError> {
        self.call(|life| async move { Ok(life.node.propose(op).await?) }.boxed()).await
    }

    /// A linearizable read.
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, CallError> {
        let read = |life: Life| async move {
            life.node.read_index().await?;
            Ok(life.mvcc.range(&request)?)
        };
        self.call(|life| read(life).boxed()).await
    }

    /// The lease's time in seconds; 0 if there is none.
    pub async fn keep_alive(&self, id: i64) -> Result<i64, CallError> {
        self.call(move |life| async move { Ok(life.node.lease_keep_alive(id).await?) }.boxed()).await
    }

    pub async fn change_members(&self, change: MemberChange) -> Result<MemberChanged, CallError> {
        self.call(move |life| async move { Ok(life.node.change_members(change).await?) }.boxed()).await
    }

    /// Runs on the member's host. When its process ends meanwhile, nobody knows what became of it.
    async fn call<T, F>(&self, work: F) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: FnOnce(Life) -> BoxFuture<'static, Result<T, CallError>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may be gone.
        let job = move |life| async move { drop(reply.send(work(life).await)) }.boxed();
        if !self.member().hand_in(Box::new(job)) {
            return Err(CallError { unknown: false, text: "the member is down".into() });
        }
        answer.await.unwrap_or_else(|_| Err(CallError { unknown: true, text: "the process ended".into() }))
    }
}

/// The one clock of all clients: each moment is later than the one before.
pub fn moment_us() -> u64 {
    static LAST_US: AtomicU64 = AtomicU64::new(0);
    let now_us = TimeHandle::current().elapsed().as_micros() as u64;
    let last_us = LAST_US.load(Relaxed);
    LAST_US.store(now_us.max(last_us + 1), Relaxed);
    LAST_US.load(Relaxed)
}
