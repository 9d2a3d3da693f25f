//! What a request must satisfy before it is proposed, with etcd's errors in etcd's order
//! (its `server/etcdserver/api/v3rpc/key.go`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keelstone_etcd_api::{
    pb::{self, request_op::Request},
    ApiError,
};

use crate::{constants, range_bounds::RangeBounds};

pub fn range(request: &pb::RangeRequest) -> Result<(), ApiError> {
    if request.key.is_empty() {
        return Err(ApiError::EmptyKey);
    }
    let order = pb::range_request::SortOrder::try_from(request.sort_order);
    let target = pb::range_request::SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() {
        return Err(ApiError::InvalidSortOption);
    }
    Ok(())
}

pub fn put(request: &pb::PutRequest) -> Result<(), ApiError> {
    if request.key.is_empty() {
        return Err(ApiError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(ApiError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(ApiError::LeaseProvided);
    }
    Ok(())
}

pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), ApiError> {
    if request.key.is_empty() {
        return Err(ApiError::EmptyKey);
    }
    Ok(())
}

pub fn lease_grant(request: &pb::LeaseGrantRequest) -> Result<(), ApiError> {
    if request.ttl > constants::LEASE_TTL_S_MAX {
        return Err(ApiError::LeaseTtlTooLarge);
    }
    Ok(())
}

/// Checks a txn with all its branches. `ops_max` is [`constants::TXN_OPS_MAX`] unless configured.
pub fn txn(request: &pb::TxnRequest, ops_max: usize) -> Result<(), ApiError> {
    txn_level(request, ops_max)?;
    intervals(&request.success)?;
    intervals(&request.failure)?;
    Ok(())
}

fn txn_level(request: &pb::TxnRequest, ops_max: usize) -> Result<(), ApiError> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    let Some(ops_left) = ops_max.checked_sub(ops) else {
        return Err(ApiError::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(ApiError::EmptyKey);
    }
    request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(r)) => range(r),
        Some(Request::RequestPut(r)) => put(r),
        Some(Request::RequestDeleteRange(r)) => delete_range(r),
        Some(Request::RequestTxn(r)) => txn_level(r, ops_left),
        None => Err(ApiError::KeyNotFound),
    })
}

type Puts = BTreeSet<Bytes>;

/// Ranges that a branch deletes; it answers whether a key is in any of them.
#[derive(Default)]
struct Deletes {
    keys: BTreeSet<Bytes>,
    ranges: BTreeMap<Bytes, RangeBounds>,
    others: Vec<RangeBounds>,
}

impl Deletes {
    fn insert(&mut self, request: &pb::DeleteRangeRequest) {
        if request.range_end.is_empty() {
            self.keys.insert(request.key.clone());
            return;
        }
        // A delete to the last key (an end of one zero byte) overlaps nothing here, as in etcd: what is deleted
        // and put again in one txn is put.
        let bounds = RangeBounds::Range(request.key.clone(), request.range_end.clone());
        if let Some(replaced) = self.ranges.insert(request.key.clone(), bounds) {
            self.others.push(replaced);
        }
    }

    fn contains(&self, key: &Bytes) -> bool {
        self.keys.contains(key)
            || self.ranges.range(..=key.clone()).any(|(_, bounds)| bounds.contains(key))
            || self.others.iter().any(|bounds| bounds.contains(key))
    }

    fn merge(&mut self, other: Self) {
        self.keys.extend(other.keys);
        for (key, bounds) in other.ranges {
            if let Some(replaced) = self.ranges.insert(key, bounds) {
                self.others.push(replaced);
            }
        }
        self.others.extend(other.others);
    }
}

/// Rejects a branch that puts a key twice, or puts and deletes it. The two branches of a nested txn exclude
/// each other, so that both may put the same key.
fn intervals(ops: &[pb::RequestOp]) -> Result<(Puts, Deletes), ApiError> {
    let mut deletes = Deletes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(request)) = &op.request {
            deletes.insert(request);
        }
    }
    let mut puts = Puts::new();
    for op in ops {
        let Some(Request::RequestTxn(request)) = &op.request else { continue };
        let (puts_then, deletes_then) = intervals(&request.success)?;
        let (puts_else, deletes_else) = intervals(&request.failure)?;
        for key in &puts_then {
            if deletes.contains(key) || !puts.insert(key.clone()) {
                return Err(ApiError::DuplicateKey);
            }
        }
        for key in puts_else {
            if deletes.contains(&key) || (puts.contains(&key) && !puts_then.contains(&key)) {
                return Err(ApiError::DuplicateKey);
            }
            puts.insert(key);
        }
        deletes.merge(deletes_then);
        deletes.merge(deletes_else);
    }
    for op in ops {
        if let Some(Request::RequestPut(request)) = &op.request {
            if deletes.contains(&request.key) || !puts.insert(request.key.clone()) {
                return Err(ApiError::DuplicateKey);
            }
        }
    }
    Ok((puts, deletes))
}
