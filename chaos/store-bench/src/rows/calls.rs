//! Single calls, as all rows make them.

use bytes::Bytes;
use keelstone_etcd_api::pb::{
    self, compare, request_op::Request, response_op::Response as OpResponse, PutRequest, RangeRequest, TxnRequest,
};

use crate::{client::Connection, constants::PAGE_KEYS, Failure, Outcome};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";

/// A row of pseudo-random numbers (xorshift64*), the same in each run.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }
}

/// Bytes that do not compress to nothing.
pub fn value(bytes: usize, seed: u64) -> Bytes {
    let mut numbers = Numbers::new(seed);
    (0..bytes).map(|_| b"abcdefghijklmnopqrstuvwxyz0123456789"[numbers.below(36) as usize]).collect()
}

pub fn key(prefix: &str, n: u64) -> Bytes {
    format!("{prefix}{n:08}").into()
}

/// The end of the range of all keys that begin with `prefix`, whose last byte is below 255.
pub fn end_of(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

pub async fn put(connection: &Connection, key: Bytes, value: Bytes) -> Outcome<i64> {
    let request = PutRequest { key, value, ..Default::default() };
    let answer: pb::PutResponse = connection.unary.call(PUT, &request).await?;
    Ok(answer.header.map_or(0, |header| header.revision))
}

/// Reads one key; returns its modification revision, 0 if there is none.
pub async fn get(connection: &Connection, key: Bytes, serializable: bool) -> Outcome<i64> {
    let request = RangeRequest { key, serializable, ..Default::default() };
    let answer: pb::RangeResponse = connection.unary.call(RANGE, &request).await?;
    Ok(answer.kvs.first().map_or(0, |kv| kv.mod_revision))
}

/// Writes if the key was last changed at `expected` (0 = does not exist), else reads it: how Kubernetes writes.
/// Returns the key's modification revision.
pub async fn update(connection: &Connection, key: Bytes, value: Bytes, expected: i64) -> Outcome<i64> {
    let compare = pb::Compare {
        result: compare::CompareResult::Equal as i32,
        target: compare::CompareTarget::Mod as i32,
        key: key.clone(),
        target_union: Some(compare::TargetUnion::ModRevision(expected)),
        ..Default::default()
    };
    let put = PutRequest { key: key.clone(), value, ..Default::default() };
    let get = RangeRequest { key, ..Default::default() };
    let request = TxnRequest {
        compare: vec![compare],
        success: vec![pb::RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: vec![pb::RequestOp { request: Some(Request::RequestRange(get)) }],
    };
    let answer: pb::TxnResponse = connection.unary.call(TXN, &request).await?;
    if answer.succeeded {
        return Ok(answer.header.map_or(0, |header| header.revision));
    }
    match answer.responses.into_iter().next().and_then(|response| response.response) {
        Some(OpResponse::ResponseRange(range)) => Ok(range.kvs.first().map_or(0, |kv| kv.mod_revision)),
        _ => Err(Failure::Failed("a txn that did not succeed did not read".into())),
    }
}

/// Lists a prefix page by page at one revision; returns the number of keys.
pub async fn list(connection: &Connection, prefix: &str) -> Outcome<usize> {
    let mut request = RangeRequest {
        key: Bytes::copy_from_slice(prefix.as_bytes()),
        range_end: end_of(prefix),
        limit: PAGE_KEYS,
        ..Default::default()
    };
    let mut keys = 0;
    loop {
        let page: pb::RangeResponse = connection.unary.call(RANGE, &request).await?;
        keys += page.kvs.len();
        let Some(last) = page.kvs.last().filter(|_| page.more) else { return Ok(keys) };
        request.key = [&last.key[..], &[0]].concat().into();
        request.revision = request.revision.max(page.header.map_or(0, |header| header.revision));
    }
}
