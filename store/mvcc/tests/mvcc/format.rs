//! What format version 1 wrote is read: it had no index in the engine, and was rebuilt in memory at each start.

use std::sync::Arc;

use bytes::Bytes;
use keelstone_engine::{Batch, Column, Direction, Engine, MemEngine, RangeRequest};
use keelstone_etcd_api::pb;
use keelstone_mvcc::{Mvcc, MvccError, MvccOptions, Op};

use crate::support::*;

/// A store with leases, deletions, history and something compacted.
fn filled() -> Store {
    let store = Store::new();
    store.apply(Op::LeaseGrant(pb::LeaseGrantRequest { id: 5, ttl: 60 })).unwrap();
    for i in 0..60 {
        let lease = if i % 3 == 0 { 5 } else { 0 };
        store.apply(Op::Put(pb::PutRequest { lease, ..put(&format!("k{}", i % 7), &i.to_string()) })).unwrap();
        if i % 10 == 4 {
            store.delete("k2", "k4");
        }
    }
    store.compact(30).unwrap();
    store
}

/// The state record with another version: field 1, a varint, comes first.
fn with_version(record: &Bytes, version: u8) -> Vec<u8> {
    assert_eq!(record[..2], [8, 2], "this release writes version 2");
    let mut record = record.to_vec();
    record[1] = version;
    record
}

/// Makes of a store what version 1 would have left of it.
fn downgrade(engine: &MemEngine) -> MemEngine {
    engine.flush().unwrap();
    let engine = engine.crash();
    let record = engine.get(Column::Meta, b"state").unwrap().unwrap();
    let mut batch = Batch::default();
    batch.put(Column::Meta, "state", with_version(&record, 1));
    batch.delete_range(Column::Index, vec![0], vec![255]);
    engine.write(batch).unwrap();
    engine.flush().unwrap();
    engine.crash()
}

fn index_rows(engine: &MemEngine) -> Vec<(Bytes, Bytes)> {
    let request = RangeRequest {
        column: Column::Index,
        start: Bytes::new(),
        end: None,
        direction: Direction::Ascending,
        limit: usize::MAX,
    };
    engine.range(&request).unwrap().pairs
}

fn assert_same(found: &Mvcc, expected: &Mvcc) {
    assert_eq!(found.state_hash(), expected.state_hash());
    assert_eq!(found.hash_kv(0), expected.hash_kv(0));
    assert_eq!(found.lease_keys(5).unwrap(), expected.lease_keys(5).unwrap());
    for revision in expected.compacted_revision()..=expected.revision() {
        let request = pb::RangeRequest { revision, limit: 3, ..range("k", "l") };
        assert_eq!(found.range(&request), expected.range(&request));
    }
}

#[test]
fn version_1_is_taken_over() {
    for swept in [false, true] {
        let store = filled();
        if swept {
            store.sweep(5);
        }
        let old = downgrade(&store.engine);
        let taken = Store::with(old.crash(), MvccOptions::default());
        assert_same(&taken.mvcc, &store.mvcc);
        // It is durable at once, and not done again.
        assert_eq!(taken.crash().engine.get(Column::Meta, b"state").unwrap().unwrap()[..2], [8, 2]);
        for store in [&store, &taken] {
            store.put("k9", "later");
            store.sweep(3);
        }
        assert_same(&taken.mvcc, &store.mvcc);
        let again = taken.reopen();
        assert_eq!(index_rows(&again.engine), index_rows(&taken.engine));
    }
}

#[test]
fn a_takeover_that_was_cut_short_begins_anew() {
    let store = filled();
    let old = downgrade(&store.engine);
    let mut batch = Batch::default();
    batch.put(Column::Index, vec![0, 0, b'z'], "garbage");
    old.write(batch).unwrap();
    assert_same(&Store::with(old, MvccOptions::default()).mvcc, &store.mvcc);
}

#[test]
fn an_unknown_version_is_refused() {
    let store = filled();
    for version in [0, 3] {
        let record = store.engine.get(Column::Meta, b"state").unwrap().unwrap();
        let engine = MemEngine::volatile();
        let mut batch = Batch::default();
        batch.put(Column::Meta, "state", with_version(&record, version));
        engine.write(batch).unwrap();
        let opened = Mvcc::open(Arc::new(engine), MvccOptions::default());
        assert!(matches!(opened, Err(MvccError::Corrupt(_))));
    }
}
