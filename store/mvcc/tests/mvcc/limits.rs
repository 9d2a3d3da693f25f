//! Every bound, at the bound and one beyond it.

use futures::FutureExt;
use keelstone_engine::MemEngine;
use keelstone_etcd_api::{
    pb::{self, request_op::Request},
    ApiError,
};
use keelstone_mvcc::{check, constants::*, MvccOptions, Op, Response, WatchBatch, WatchSpec};

use crate::support::*;

fn puts(count: usize) -> Vec<pb::RequestOp> {
    (0..count).map(|i| op(Request::RequestPut(put(&format!("k{i}"), "v")))).collect()
}

#[test]
fn txn_operations() {
    let txn = |success, failure| pb::TxnRequest { success, failure, ..Default::default() };
    assert_eq!(check::txn(&txn(puts(TXN_OPS_MAX), puts(TXN_OPS_MAX)), TXN_OPS_MAX), Ok(()));
    assert_eq!(check::txn(&txn(vec![], puts(TXN_OPS_MAX + 1)), TXN_OPS_MAX), Err(ApiError::TooManyOps));
    // Nested ones have what the outer ones leave.
    let nested = |count| txn(vec![op(Request::RequestTxn(txn(puts(count), vec![])))], vec![]);
    assert_eq!(check::txn(&nested(TXN_OPS_MAX - 1), TXN_OPS_MAX), Ok(()));
    assert_eq!(check::txn(&nested(TXN_OPS_MAX), TXN_OPS_MAX), Err(ApiError::TooManyOps));
    let empty = pb::RequestOp { request: None };
    assert_eq!(check::txn(&txn(vec![empty.clone()], vec![]), TXN_OPS_MAX), Err(ApiError::KeyNotFound));
    // Not checked by anyone: refused all the same, and nothing is changed.
    let store = Store::new();
    let mut ops = puts(1);
    ops.push(empty);
    assert_eq!(store.apply(Op::Txn(txn(ops, vec![]))), Err(ApiError::KeyNotFound));
    assert_eq!(store.mvcc.revision(), 1);
}

#[test]
fn unknown_enum_values_do_no_harm() {
    let request = pb::RangeRequest { key: bytes("a"), sort_order: 9, ..Default::default() };
    assert_eq!(check::range(&request), Err(ApiError::InvalidSortOption));
    let request = pb::RangeRequest { key: bytes("a"), sort_target: -1, ..Default::default() };
    assert_eq!(check::range(&request), Err(ApiError::InvalidSortOption));
    let store = Store::new();
    store.put("a", "1");
    assert_eq!(store.mvcc.range(&request).unwrap().count, 1);
    let compare = pb::Compare { key: bytes("a"), target: 77, result: 77, ..Default::default() };
    let txn = pb::TxnRequest { compare: vec![compare], ..Default::default() };
    assert!(matches!(store.apply(Op::Txn(txn)), Ok(Response::Txn(r)) if r.succeeded));
}

#[test]
fn lease_ttl() {
    let grant = |ttl| check::lease_grant(&pb::LeaseGrantRequest { id: 1, ttl });
    assert_eq!(grant(LEASE_TTL_S_MAX), Ok(()));
    assert_eq!(grant(LEASE_TTL_S_MAX + 1), Err(ApiError::LeaseTtlTooLarge));
}

#[test]
fn quota() {
    let options = MvccOptions { quota_bytes: 1000, ..Default::default() };
    let store = Store::with(MemEngine::volatile(), options);
    let op = |bytes| Op::Put(put("k", &"v".repeat(bytes)));
    let overhead = 256 + 1;
    assert_eq!(store.mvcc.check_quota(&op(1000 - overhead)), Ok(()));
    assert_eq!(store.mvcc.check_quota(&op(1000 - overhead + 1)), Err(ApiError::NoSpace));
    assert_eq!(store.mvcc.check_quota(&Op::DeleteRange(delete("k", ""))), Ok(()));
    let unlimited = MvccOptions { quota_bytes: 0, ..Default::default() };
    let store = Store::with(MemEngine::volatile(), unlimited);
    assert_eq!(store.mvcc.check_quota(&op(1 << 20)), Ok(()));
}

#[test]
fn many_versions_of_one_key() {
    let store = Store::new();
    let last = 100;
    for revision in 2..=last {
        assert_eq!(store.put("k", &revision.to_string()), revision);
    }
    let get = |store: &Store, revision| {
        let request = pb::RangeRequest { key: bytes("k"), revision, ..Default::default() };
        store.mvcc.range(&request).map(|response| text(&response.kvs[0].value))
    };
    (2..=last).for_each(|revision| assert_eq!(get(&store, revision), Ok(revision.to_string())));
    store.compact(last - 40).unwrap();
    store.sweep(3);
    let reopened = store.reopen();
    for store in [&store, &reopened] {
        assert_eq!(get(store, last - 41), Err(ApiError::Compacted));
        (last - 40..=last).for_each(|revision| assert_eq!(get(store, revision), Ok(revision.to_string())));
    }
}

#[test]
fn watch_batch_bytes() {
    let store = Store::new();
    let value = "v".repeat(WATCH_BATCH_BYTES_MAX / 4);
    let spec = WatchSpec { key: bytes("k"), ..Default::default() };
    let mut live = store.mvcc.watch(spec.clone());
    (0..10).for_each(|_| {
        store.put("k", &value);
    });
    let reopened = store.reopen();
    let mut late = reopened.mvcc.watch(WatchSpec { start_revision: 2, ..spec });
    for watcher in [&mut live, &mut late] {
        let mut sizes = Vec::new();
        while let Some(batch) = watcher.next().now_or_never() {
            let Ok(Some(WatchBatch::Events { events, .. })) = batch else { panic!("{batch:?}") };
            sizes.push(events.len());
        }
        assert_eq!(sizes.iter().sum::<usize>(), 10);
        assert!(sizes.iter().all(|events| *events <= 4), "{sizes:?}");
    }
}
