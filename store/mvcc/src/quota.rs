use keelstone_etcd_api::pb::{self, request_op::Request};

use crate::Op;

/// What a key-value costs beside its key and value, in bytes; as in etcd.
const KEY_VALUE_OVERHEAD_BYTES: usize = 256;
/// What a lease costs, in bytes; as in etcd.
const LEASE_OVERHEAD_BYTES: usize = 64;

/// Bytes that `op` may add to the store, roughly; 0 if it only reads or removes.
pub fn stores_bytes(op: &Op) -> usize {
    match op {
        Op::Put(request) => put(request),
        Op::Txn(request) => txn(request),
        Op::LeaseGrant(_) => LEASE_OVERHEAD_BYTES,
        Op::DeleteRange(_)
        | Op::Compact(_)
        | Op::LeaseRevoke(_)
        | Op::LeaseExpire(_)
        | Op::Alarm(_)
        | Op::Auth(_)
        | Op::Moment(_) => 0,
    }
}

fn put(request: &pb::PutRequest) -> usize {
    KEY_VALUE_OVERHEAD_BYTES + request.key.len() + request.value.len()
}

fn txn(request: &pb::TxnRequest) -> usize {
    let branch = |ops: &[pb::RequestOp]| -> usize {
        ops.iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(request)) => put(request),
                Some(Request::RequestTxn(request)) => txn(request),
                _ => 0,
            })
            .sum()
    };
    branch(&request.success).max(branch(&request.failure))
}
