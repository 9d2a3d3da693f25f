//! Helpers of the tests: a store that applies one command after the other, and ways to say things shortly.

use std::sync::{
    atomic::{AtomicU64, Ordering},
    Arc,
};

use bytes::Bytes;
use keelstone_engine::{Engine, MemEngine};
use keelstone_etcd_api::pb::{self, request_op::Request};
use keelstone_mvcc::{Caller, Command, Entry, Mvcc, MvccOptions, Op, Payload, Reply, Response};

pub struct Store {
    pub mvcc: Mvcc,
    pub engine: Arc<MemEngine>,
    pub next_index: AtomicU64,
}

impl Store {
    pub fn new() -> Self {
        Self::with(MemEngine::volatile(), MvccOptions::default())
    }

    pub fn with(engine: MemEngine, options: MvccOptions) -> Self {
        let engine = Arc::new(engine);
        let mvcc = Mvcc::open(Arc::clone(&engine) as Arc<dyn Engine>, options).unwrap();
        let next_index = mvcc.applied().index + 1;
        Self { mvcc, engine, next_index: next_index.into() }
    }

    /// What a crash now leaves.
    pub fn crash(&self) -> Self {
        Self::with(self.engine.crash(), MvccOptions::default())
    }

    /// What a clean restart finds.
    pub fn reopen(&self) -> Self {
        self.mvcc.flush().unwrap();
        self.crash()
    }

    pub fn apply(&self, op: Op) -> Reply {
        let index = self.next_index.fetch_add(1, Ordering::SeqCst);
        self.mvcc.apply(vec![entry(index, op)]).unwrap().remove(0)
    }

    pub fn put(&self, key: &str, value: &str) -> i64 {
        match self.apply(Op::Put(put(key, value))) {
            Ok(Response::Put(response)) => response.header.unwrap().revision,
            other => panic!("put: {other:?}"),
        }
    }

    pub fn delete(&self, key: &str, end: &str) -> i64 {
        match self.apply(Op::DeleteRange(delete(key, end))) {
            Ok(Response::DeleteRange(response)) => response.deleted,
            other => panic!("delete: {other:?}"),
        }
    }

    pub fn compact(&self, revision: i64) -> Reply {
        self.apply(Op::Compact(pb::CompactionRequest { revision, physical: false }))
    }

    pub fn sweep(&self, budget: usize) {
        while self.mvcc.compact_step(budget).unwrap() {}
    }

    pub fn get(&self, key: &str) -> Option<String> {
        let request = pb::RangeRequest { key: bytes(key), ..Default::default() };
        let kv = self.mvcc.range(&request).unwrap().kvs.pop();
        kv.map(|kv| text(&kv.value))
    }
}

pub fn entry(index: u64, op: Op) -> Entry {
    command_for(index, op, None)
}

/// An entry with a command of `caller`.
pub fn command_for(index: u64, op: Op, caller: Option<Caller>) -> Entry {
    let command = Command { proposer_term: 1, op: Some(op), caller };
    Entry { index, term: 1, log_id: index.to_be_bytes().to_vec().into(), payload: Payload::Command(command) }
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

pub fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

pub fn delete(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

pub fn range(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

pub fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}
