use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use keelstone_env::Env;
use keelstone_etcd_api::{mvccpb::KeyValue, pb, ApiError};
use keelstone_store_client::{EtcdKv, KvError, WatchStream};
use tokio::time::{timeout_at, Instant};

use crate::{
    constants::{ATTEMPT_TIMEOUT, OPERATION_TIMEOUT, RETRY_PAUSE, ROOT, SETTLE_STEPS_MAX},
    error::{is_transient, StoreError},
    lease_pool::LeasePool,
};

/// The store with deadlines, retries that cannot do harm, and shared leases.
pub struct StoreAccess {
    env: Env,
    kv: Arc<dyn EtcdKv>,
    leases: Mutex<LeasePool>,
}

/// When an operation must have ended.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(env: &Env, wait: Duration) -> Self {
        Self(env.now() + wait)
    }

    pub fn instant(self) -> Instant {
        self.0
    }
}

/// What a compare-and-set writes.
#[derive(Clone, Debug)]
pub enum Change {
    Put { value: Bytes, ttl_s: Option<i64> },
    Delete,
}

/// How a compare-and-set ended.
#[derive(Clone, Debug)]
pub enum CasOutcome {
    /// Written at this revision.
    Done { revision: i64 },
    /// Another write came before; this is what it left.
    Lost { current: Option<KeyValue> },
}

impl StoreAccess {
    pub fn new(env: Env, kv: Arc<dyn EtcdKv>) -> Arc<Self> {
        Arc::new(Self { env, kv, leases: Mutex::new(LeasePool::default()) })
    }

    pub fn env(&self) -> &Env {
        &self.env
    }

    pub fn kv(&self) -> &Arc<dyn EtcdKv> {
        &self.kv
    }

    /// The deadline of an operation that begins now.
    pub fn deadline(&self) -> Deadline {
        Deadline::after(&self.env, OPERATION_TIMEOUT)
    }

    /// Repeats a call without side effects until it succeeds, is refused, or the deadline passes.
    async fn retry<T, F, C>(&self, deadline: Deadline, call: C) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, KvError>> + Send,
        C: Fn() -> F + Send + Sync,
    {
        loop {
            let attempt_end = deadline.0.min(self.env.now() + ATTEMPT_TIMEOUT);
            let why = match timeout_at(attempt_end, call()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if !is_transient(&error) => return Err(refusal(error)),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if self.env.now() + RETRY_PAUSE >= deadline.0 {
                return Err(StoreError::Unavailable(why));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    pub async fn range(&self, deadline: Deadline, request: pb::RangeRequest) -> Result<pb::RangeResponse, StoreError> {
        self.retry(deadline, || self.kv.range(request.clone())).await
    }

    /// The store's current revision, confirmed by a quorum.
    pub async fn revision(&self, deadline: Deadline) -> Result<i64, StoreError> {
        let request = pb::RangeRequest {
            key: Bytes::from_static(ROOT.as_bytes()),
            count_only: true,
            limit: 1,
            ..Default::default()
        };
        Ok(revision_of(&self.range(deadline, request).await?.header))
    }

    /// Opens a watch; only the opening has a deadline.
    pub async fn watch(&self, deadline: Deadline, request: pb::WatchCreateRequest) -> Result<WatchStream, StoreError> {
        self.retry(deadline, || self.kv.watch(request.clone())).await
    }

    /// Writes `change` under `key` if its modification revision is `expected` (0: if there is no such key).
    ///
    /// An unknown outcome is resolved by doing the same again: either the first try took effect, then the comparison
    /// fails and the key's history shows our own value ([`Self::settle`]); or it did not, then it never can once the key
    /// has another revision. A creation is the exception: the key may be absent again when a late first try arrives, so
    /// it is not tried twice, only looked for.
    pub async fn compare_and_set(
        &self,
        deadline: Deadline,
        key: &str,
        expected: i64,
        change: &Change,
    ) -> Result<CasOutcome, StoreError> {
        let mut unknown = false;
        let mut lease_lost = false;
        loop {
            if unknown && expected == 0 {
                let current = self.look(deadline, key, 0).await?;
                return self.settle(deadline, key, expected, change, current).await;
            }
            let request = self.cas_request(deadline, key, expected, change, lease_lost).await.map_err(|e| match e {
                StoreError::Unavailable(why) if unknown => StoreError::Unknown(why),
                other => other,
            })?;
            let attempt_end = deadline.0.min(self.env.now() + ATTEMPT_TIMEOUT);
            let why = match timeout_at(attempt_end, self.kv.txn(request)).await {
                Ok(Ok(answer)) => match cas_outcome(answer) {
                    CasOutcome::Lost { current } if unknown => {
                        return self.settle(deadline, key, expected, change, current).await;
                    }
                    outcome => return Ok(outcome),
                },
                Ok(Err(KvError::Api(ApiError::LeaseNotFound))) if !lease_lost => {
                    lease_lost = true;
                    continue;
                }
                Ok(Err(error)) if !is_transient(&error) => return Err(refusal(error)),
                Ok(Err(error)) => {
                    unknown |= error.outcome_unknown();
                    error.to_string()
                }
                Err(_) => {
                    unknown = true;
                    "no answer".to_owned()
                }
            };
            if self.env.now() + RETRY_PAUSE >= deadline.0 {
                return Err(if unknown { StoreError::Unknown(why) } else { StoreError::Unavailable(why) });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// The key's state at `revision` (0: now). Failing to look leaves a write unknown.
    async fn look(&self, deadline: Deadline, key: &str, revision: i64) -> Result<Option<KeyValue>, StoreError> {
        let request = pb::RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), revision, ..Default::default() };
        match self.range(deadline, request).await {
            Ok(answer) => Ok(answer.kvs.into_iter().next()),
            Err(error) => Err(StoreError::Unknown(error.to_string())),
        }
    }

    /// What became of a write of which one try had an unknown outcome, and which is certainly over: goes back through
    /// the key's history to `expected`. It ends unknown where that history has a hole.
    async fn settle(
        &self,
        deadline: Deadline,
        key: &str,
        expected: i64,
        change: &Change,
        current: Option<KeyValue>,
    ) -> Result<CasOutcome, StoreError> {
        let unknown = || Err(StoreError::Unknown("others have changed the object since".into()));
        let value = match (change, &current) {
            (Change::Put { value, .. }, _) => value,
            (Change::Delete, None) => return Ok(CasOutcome::Done { revision: self.revision(deadline).await? }),
            // One life since before: nobody has deleted it.
            (Change::Delete, Some(kv)) if kv.create_revision <= expected => return Ok(CasOutcome::Lost { current }),
            (Change::Delete, Some(_)) => return unknown(),
        };
        let mut state = current.clone();
        for _ in 0..SETTLE_STEPS_MAX {
            let Some(kv) = state else { return unknown() };
            if kv.mod_revision == expected {
                return Ok(CasOutcome::Lost { current });
            }
            if kv.value == *value {
                return Ok(CasOutcome::Done { revision: kv.mod_revision });
            }
            state = self.look(deadline, key, kv.mod_revision - 1).await?;
        }
        unknown()
    }

    async fn cas_request(
        &self,
        deadline: Deadline,
        key: &str,
        expected: i64,
        change: &Change,
        new_lease: bool,
    ) -> Result<pb::TxnRequest, StoreError> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let success = match change {
            Change::Put { value, ttl_s } => {
                let lease = match ttl_s {
                    Some(ttl_s) => self.lease(deadline, *ttl_s, new_lease).await?,
                    None => 0,
                };
                let put = pb::PutRequest { key: key.clone(), value: value.clone(), lease, ..Default::default() };
                pb::request_op::Request::RequestPut(put)
            }
            Change::Delete => pb::request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: key.clone(),
                ..Default::default()
            }),
        };
        let compare = pb::Compare {
            result: pb::compare::CompareResult::Equal.into(),
            target: pb::compare::CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(pb::compare::TargetUnion::ModRevision(expected)),
            ..Default::default()
        };
        let read = pb::request_op::Request::RequestRange(pb::RangeRequest { key, ..Default::default() });
        Ok(pb::TxnRequest {
            compare: vec![compare],
            success: vec![pb::RequestOp { request: Some(success) }],
            failure: vec![pb::RequestOp { request: Some(read) }],
        })
    }

    /// A lease that lives at least `ttl_s` from now, shared with other keys of the same minute.
    async fn lease(&self, deadline: Deadline, ttl_s: i64, new: bool) -> Result<i64, StoreError> {
        let now = self.env.now();
        if !new {
            if let Some(id) = self.leases.lock().unwrap_or_else(PoisonError::into_inner).take(ttl_s, now) {
                return Ok(id);
            }
        }
        let request = pb::LeaseGrantRequest { ttl: LeasePool::granted_ttl_s(ttl_s), id: 0 };
        // A grant whose answer got lost leaves an empty lease, which expires by itself.
        let granted = self.retry(deadline, || self.kv.lease_grant(request)).await?;
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).put(ttl_s, granted.id, now);
        Ok(granted.id)
    }
}

fn refusal(error: KvError) -> StoreError {
    match error {
        KvError::Api(error) => StoreError::Refused(error),
        other => StoreError::Foreign(other.to_string()),
    }
}

/// The revision in a response's header; 0 if there is no header.
pub fn revision_of(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().map_or(0, |h| h.revision)
}

fn cas_outcome(answer: pb::TxnResponse) -> CasOutcome {
    if answer.succeeded {
        return CasOutcome::Done { revision: revision_of(&answer.header) };
    }
    let current = answer.responses.into_iter().find_map(|r| match r.response {
        Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    });
    CasOutcome::Lost { current }
}

/// The end of the range of all keys with this prefix.
pub fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(b"\0")
}
