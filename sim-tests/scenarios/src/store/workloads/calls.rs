//! Requests as the workloads need them.

use keelstone_checkers::Ending;
use keelstone_etcd_api::{
    mvccpb,
    pb::{self, compare::CompareTarget, compare::TargetUnion, request_op::Request, response_op::Response},
};
use keelstone_store_client::{EtcdKv, GrpcKv, KvError};

pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

pub fn delete(key: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() }
}

pub fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// All keys that begin with this; the last byte of `prefix` is below 0xff.
pub fn prefix(prefix: &str) -> pb::RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    pb::RangeRequest { key: prefix.to_owned().into(), range_end: end.into(), ..Default::default() }
}

/// True if the key's modification revision is this; 0: the key is absent.
pub fn modified_at(key: &str, revision: i64) -> pb::Compare {
    compare(key, CompareTarget::Mod, TargetUnion::ModRevision(revision))
}

/// True if the key was created at this revision; 0: the key is absent.
pub fn created_at(key: &str, revision: i64) -> pb::Compare {
    compare(key, CompareTarget::Create, TargetUnion::CreateRevision(revision))
}

fn compare(key: &str, target: CompareTarget, union: TargetUnion) -> pb::Compare {
    pb::Compare {
        result: pb::compare::CompareResult::Equal as i32,
        target: target as i32,
        key: key.to_owned().into(),
        target_union: Some(union),
        ..Default::default()
    }
}

pub fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// A transaction without an else branch.
pub fn txn(compare: Vec<pb::Compare>, success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { compare, success, failure: Vec::new() }
}

pub fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Several keys at one revision, in the order of `keys`.
pub async fn read_all(kv: &GrpcKv, keys: &[String]) -> Result<(Vec<Option<mvccpb::KeyValue>>, i64), KvError> {
    let reads = keys.iter().map(|key| op(Request::RequestRange(get(key)))).collect();
    let answer = kv.txn(txn(Vec::new(), reads)).await?;
    let found = answer.responses.into_iter().map(|response| match response.response {
        Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    });
    Ok((found.collect(), revision(answer.header)))
}

/// How a write that failed with this error ended.
pub fn ending(error: &KvError) -> Ending {
    if error.outcome_unknown() {
        Ending::Unknown
    } else {
        Ending::Failed
    }
}
