//! A test double of the store, for the tests of this crate and of those above it. No product code uses it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use keelstone_etcd_api::{
    mvccpb::{event::EventType, Event, KeyValue},
    pb, ApiError,
};
use keelstone_store_client::{EtcdKv, KvError, WatchStream};
use tokio::sync::mpsc;

/// An etcd in memory: revisions, transactions, watches, compaction and leases, and faults on demand.
pub struct MemoryKv {
    state: Mutex<State>,
}

const FROZEN_POLL: Duration = Duration::from_millis(10);

/// What happens to the next transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnFault {
    /// It is carried out, but the answer gets lost.
    AnswerLost,
    /// It gets lost on its way.
    RequestLost,
}

#[derive(Default)]
struct State {
    revision: i64,
    compacted: i64,
    /// All versions of a key, oldest first; `version` 0 is a tombstone.
    keys: BTreeMap<Bytes, Vec<KeyValue>>,
    log: Vec<Event>,
    watchers: Vec<Watcher>,
    leases: BTreeMap<i64, i64>,
    down: bool,
    frozen: bool,
    mute: bool,
    txn_fault: Option<TxnFault>,
    calls: u64,
}

struct Watcher {
    key: Bytes,
    range_end: Bytes,
    silent: bool,
    responses: mpsc::UnboundedSender<Result<pb::WatchResponse, KvError>>,
}

impl MemoryKv {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { revision: 1, ..State::default() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While down, every call says that there is no leader; watches stay open and silent.
    pub fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    /// While frozen, no call is answered, nor carried out.
    pub fn set_frozen(&self, frozen: bool) {
        self.state().frozen = frozen;
    }

    /// While mute, watches get no events, although calls are answered. A watch that missed one stays silent
    /// for ever, as on a connection that hangs: no watch has holes.
    pub fn set_mute(&self, mute: bool) {
        self.state().mute = mute;
    }

    pub fn fail_next_txn(&self, fault: TxnFault) {
        self.state().txn_fault = Some(fault);
    }

    /// Breaks all watches, as a lost connection does.
    pub fn cut_watches(&self) {
        self.state().watchers.clear();
    }

    pub fn revision(&self) -> i64 {
        self.state().revision
    }

    /// How many calls other than watches were made.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The TTLs of all leases, by id.
    pub fn leases(&self) -> BTreeMap<i64, i64> {
        self.state().leases.clone()
    }

    async fn enter(&self) -> Result<MutexGuard<'_, State>, KvError> {
        while self.state().frozen {
            tokio::time::sleep(FROZEN_POLL).await;
        }
        let mut state = self.state();
        state.calls += 1;
        if state.down {
            return Err(ApiError::NoLeader.into());
        }
        Ok(state)
    }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

fn contains(start: &[u8], end: &[u8], key: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}

impl State {
    fn live(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        self.keys.get(key)?.iter().rev().find(|kv| kv.mod_revision <= revision).filter(|kv| kv.version > 0)
    }

    fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, KvError> {
        if request.revision > self.revision {
            return Err(ApiError::FutureRevision.into());
        }
        if request.revision > 0 && request.revision < self.compacted {
            return Err(ApiError::Compacted.into());
        }
        let at = if request.revision > 0 { request.revision } else { self.revision };
        let mut found: Vec<&KeyValue> = self
            .keys
            .range(request.key.clone()..)
            .take_while(|(key, _)| contains(&request.key, &request.range_end, key))
            .filter_map(|(key, _)| self.live(key, at))
            .collect();
        let count = found.len();
        let limit = usize::try_from(request.limit).unwrap_or(0);
        if limit > 0 {
            found.truncate(limit);
        }
        let kvs = if request.count_only { Vec::new() } else { found.iter().map(|kv| (*kv).clone()).collect() };
        Ok(pb::RangeResponse {
            header: header(self.revision),
            more: found.len() < count,
            kvs,
            count: i64::try_from(count).unwrap_or(i64::MAX),
        })
    }

    fn write(&mut self, revision: i64, key: &Bytes, value: Option<(Bytes, i64)>) -> Option<KeyValue> {
        let prev = self.live(key, self.revision).cloned();
        let kv = match value {
            Some((value, lease)) => KeyValue {
                key: key.clone(),
                create_revision: prev.as_ref().map_or(revision, |p| p.create_revision),
                mod_revision: revision,
                version: prev.as_ref().map_or(1, |p| p.version + 1),
                value,
                lease,
            },
            None => {
                prev.as_ref()?;
                KeyValue { key: key.clone(), mod_revision: revision, ..Default::default() }
            }
        };
        let kind = if kv.version > 0 { EventType::Put } else { EventType::Delete };
        self.keys.entry(key.clone()).or_default().push(kv.clone());
        self.log.push(Event { r#type: kind.into(), kv: Some(kv), prev_kv: prev.clone() });
        prev
    }

    /// Ends a write: sends the events of `revision` to the watchers.
    fn publish(&mut self, revision: i64) {
        let first = self.log.partition_point(|e| revision_of(e) < revision);
        if first == self.log.len() {
            return;
        }
        self.revision = revision;
        if self.mute {
            self.watchers.iter_mut().for_each(|watcher| watcher.silent = true);
        }
        let events = self.log[first..].to_vec();
        self.watchers.retain(|watcher| watcher.silent || watcher.send(&events, revision));
    }

    fn op(&mut self, revision: i64, op: &pb::RequestOp) -> Result<pb::ResponseOp, KvError> {
        use pb::{request_op::Request, response_op::Response};
        let response = match &op.request {
            Some(Request::RequestRange(range)) => Response::ResponseRange(self.range(range)?),
            Some(Request::RequestPut(put)) => {
                if put.lease != 0 && !self.leases.contains_key(&put.lease) {
                    return Err(ApiError::LeaseNotFound.into());
                }
                self.write(revision, &put.key, Some((put.value.clone(), put.lease)));
                Response::ResponsePut(pb::PutResponse { header: header(revision), prev_kv: None })
            }
            Some(Request::RequestDeleteRange(delete)) => {
                let keys: Vec<Bytes> =
                    self.keys.keys().filter(|key| contains(&delete.key, &delete.range_end, key)).cloned().collect();
                let deleted = keys.iter().filter(|key| self.write(revision, key, None).is_some()).count();
                Response::ResponseDeleteRange(pb::DeleteRangeResponse {
                    header: header(revision),
                    deleted: i64::try_from(deleted).unwrap_or(i64::MAX),
                    prev_kvs: Vec::new(),
                })
            }
            Some(Request::RequestTxn(_)) | None => return Err(KvError::Refused("not in the test double".into())),
        };
        Ok(pb::ResponseOp { response: Some(response) })
    }

    fn txn(&mut self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, KvError> {
        let holds = |compare: &pb::Compare| {
            let kv = self.live(&compare.key, self.revision);
            match compare.target_union {
                Some(pb::compare::TargetUnion::ModRevision(r)) => kv.map_or(0, |kv| kv.mod_revision) == r,
                Some(pb::compare::TargetUnion::Version(v)) => kv.map_or(0, |kv| kv.version) == v,
                _ => false,
            }
        };
        let succeeded = request.compare.iter().all(holds);
        let ops = if succeeded { &request.success } else { &request.failure };
        let revision = self.revision + 1;
        let responses = ops.iter().map(|op| self.op(revision, op)).collect::<Result<_, _>>()?;
        self.publish(revision);
        Ok(pb::TxnResponse { header: header(self.revision), succeeded, responses })
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

impl Watcher {
    fn send(&self, events: &[Event], revision: i64) -> bool {
        let of_key = |e: &&Event| e.kv.as_ref().is_some_and(|kv| contains(&self.key, &self.range_end, &kv.key));
        let events: Vec<Event> = events.iter().filter(of_key).cloned().collect();
        if events.is_empty() {
            return !self.responses.is_closed();
        }
        self.responses.send(Ok(pb::WatchResponse { header: header(revision), events, ..Default::default() })).is_ok()
    }
}

#[async_trait]
impl EtcdKv for MemoryKv {
    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, KvError> {
        if request.serializable {
            return self.state().range(&request);
        }
        self.enter().await?.range(&request)
    }

    async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, KvError> {
        let mut state = self.enter().await?;
        let revision = state.revision + 1;
        let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(request)) };
        state.op(revision, &op)?;
        state.publish(revision);
        Ok(pb::PutResponse { header: header(revision), prev_kv: None })
    }

    async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, KvError> {
        let mut state = self.enter().await?;
        let revision = state.revision + 1;
        let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(request)) };
        let response = state.op(revision, &op)?;
        state.publish(revision);
        match response.response {
            Some(pb::response_op::Response::ResponseDeleteRange(deleted)) => Ok(deleted),
            _ => Err(KvError::Refused("not a deletion".into())),
        }
    }

    async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, KvError> {
        let mut state = self.enter().await?;
        let fault = state.txn_fault.take();
        if fault == Some(TxnFault::RequestLost) {
            return Err(KvError::Unknown("the request was lost".into()));
        }
        let answer = state.txn(&request);
        if fault == Some(TxnFault::AnswerLost) {
            return Err(KvError::Unknown("the answer was lost".into()));
        }
        answer
    }

    async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, KvError> {
        let mut state = self.enter().await?;
        if request.revision <= state.compacted {
            return Err(ApiError::Compacted.into());
        }
        if request.revision > state.revision {
            return Err(ApiError::FutureRevision.into());
        }
        state.compacted = request.revision;
        Ok(pb::CompactionResponse { header: header(state.revision) })
    }

    async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, KvError> {
        let mut state = self.enter().await?;
        let id = i64::try_from(state.leases.len()).unwrap_or(0) + 1;
        state.leases.insert(id, request.ttl);
        Ok(pb::LeaseGrantResponse { header: header(state.revision), id, ttl: request.ttl, error: String::new() })
    }

    async fn lease_revoke(&self, request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, KvError> {
        let mut state = self.enter().await?;
        state.leases.remove(&request.id).ok_or(ApiError::LeaseNotFound)?;
        let revision = state.revision + 1;
        let at = state.revision;
        let keys: Vec<Bytes> = state.keys.keys().cloned().collect();
        for key in keys {
            if state.live(&key, at).is_some_and(|kv| kv.lease == request.id) {
                state.write(revision, &key, None);
            }
        }
        state.publish(revision);
        Ok(pb::LeaseRevokeResponse { header: header(state.revision) })
    }

    async fn lease_keep_alive_once(&self, lease_id: i64) -> Result<pb::LeaseKeepAliveResponse, KvError> {
        let state = self.enter().await?;
        let ttl = state.leases.get(&lease_id).copied().unwrap_or(0);
        Ok(pb::LeaseKeepAliveResponse { header: header(state.revision), id: lease_id, ttl })
    }

    async fn status(&self) -> Result<pb::StatusResponse, KvError> {
        let state = self.enter().await?;
        Ok(pb::StatusResponse {
            header: header(state.revision),
            version: "3.5.13".into(),
            leader: 1,
            ..Default::default()
        })
    }

    async fn watch_with_progress(
        &self,
        request: pb::WatchCreateRequest,
        _progress_requests: mpsc::Receiver<()>,
    ) -> Result<WatchStream, KvError> {
        let mut state = self.state();
        if state.down {
            return Err(ApiError::NoLeader.into());
        }
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let silent = state.mute;
        let watcher = Watcher { key: request.key, range_end: request.range_end, silent, responses: sender };
        let created = pb::WatchResponse { header: header(state.revision), created: true, ..Default::default() };
        let _ = watcher.responses.send(Ok(created));
        if request.start_revision > 0 && request.start_revision <= state.compacted {
            let canceled = pb::WatchResponse {
                header: header(state.revision),
                canceled: true,
                compact_revision: state.compacted,
                ..Default::default()
            };
            let _ = watcher.responses.send(Ok(canceled));
        } else {
            if request.start_revision > 0 && !state.mute {
                let first = state.log.partition_point(|e| revision_of(e) < request.start_revision);
                watcher.send(&state.log[first..], state.revision);
            }
            state.watchers.push(watcher);
        }
        Ok(Box::pin(async_stream::stream! {
            while let Some(response) = receiver.recv().await {
                yield response;
            }
        }))
    }
}
