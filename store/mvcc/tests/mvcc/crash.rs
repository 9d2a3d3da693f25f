//! Crashes between flushes, and entries that come again.

use std::sync::Arc;

use keelstone_engine::{Engine, MemEngine};
use keelstone_etcd_api::pb;
use keelstone_mvcc::{Entry, Mvcc, MvccError, MvccOptions, Op, Payload, Response};

use crate::support::*;

fn open(engine: MemEngine) -> (Arc<MemEngine>, Mvcc) {
    let engine = Arc::new(engine);
    let mvcc = Mvcc::open(Arc::clone(&engine) as Arc<dyn Engine>, MvccOptions::default()).unwrap();
    (engine, mvcc)
}

/// A log with every kind of command in it.
fn log() -> Vec<Entry> {
    let grant = |id, ttl| Op::LeaseGrant(pb::LeaseGrantRequest { id, ttl });
    let compact = |revision| Op::Compact(pb::CompactionRequest { revision, physical: false });
    let on_lease = |key, lease| Op::Put(pb::PutRequest { lease, ..put(key, "leased") });
    let alarm = |action| Op::Alarm(pb::AlarmRequest { action, member_id: 1, alarm: pb::AlarmType::Nospace as i32 });
    let mut ops = vec![grant(1, 10), on_lease("l1", 1), on_lease("l2", 1), grant(2, 10), on_lease("l3", 2)];
    for i in 0..30 {
        ops.push(Op::Put(put(&format!("k{}", i % 4), &i.to_string())));
        if i % 7 == 3 {
            ops.push(Op::DeleteRange(delete("k1", "k3")));
        }
        if i % 10 == 9 {
            ops.push(compact(i + 1));
        }
        if i == 12 {
            ops.push(Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }));
            ops.push(alarm(1));
        }
        if i == 14 {
            ops.push(alarm(2));
        }
    }
    ops.into_iter().enumerate().map(|(i, op)| entry(i as u64 + 1, op)).collect()
}

fn state(mvcc: &Mvcc) -> (u64, u64, u32, i64, String) {
    let all = pb::RangeRequest { key: bytes("\0"), range_end: bytes("\0"), ..Default::default() };
    let kvs = mvcc.range(&all).unwrap();
    let (index, hash) = mvcc.state_hash();
    let rest = format!("{kvs:?} {:?} {:?} {:?}", mvcc.leases(), mvcc.lease_keys(2), mvcc.alarms());
    (index, hash, mvcc.hash_kv(0).unwrap().0, mvcc.compacted_revision(), rest)
}

#[test]
fn a_crash_after_any_flush_is_made_good_by_the_log() {
    let log = log();
    let (_, straight) = open(MemEngine::volatile());
    straight.apply(log.clone()).unwrap();
    let expected = state(&straight);
    for flushed in 0..=log.len() {
        let (engine, mvcc) = open(MemEngine::volatile());
        for entry in &log[..flushed] {
            mvcc.apply(vec![entry.clone()]).unwrap();
            mvcc.compact_step(2).unwrap();
        }
        assert_eq!(mvcc.flush().unwrap(), flushed as u64);
        // What comes after the flush is lost.
        mvcc.apply(log[flushed..].to_vec()).unwrap();
        while mvcc.compact_step(3).unwrap() {}
        assert_eq!(state(&mvcc), expected);
        assert_eq!(mvcc.durable_index(), flushed as u64);
        let (_, mvcc) = open(engine.crash());
        assert_eq!(mvcc.applied().index, flushed as u64);
        // The log is replayed from some entry at or before the first missing one.
        let replies = mvcc.apply(log[flushed.saturating_sub(3)..].to_vec()).unwrap();
        assert!(replies.iter().take(flushed.min(3)).all(|reply| *reply == Ok(Response::None)));
        assert_eq!(state(&mvcc), expected, "flushed after {flushed} entries");
        while mvcc.compact_step(1).unwrap() {}
        assert_eq!(state(&mvcc), expected, "swept, flushed after {flushed} entries");
    }
}

#[test]
fn batches_do_not_matter() {
    let log = log();
    let (_, straight) = open(MemEngine::volatile());
    let expected_replies = straight.apply(log.clone()).unwrap();
    for size in [1, 2, 5] {
        let (_, mvcc) = open(MemEngine::volatile());
        let replies: Vec<_> = log.chunks(size).flat_map(|chunk| mvcc.apply(chunk.to_vec()).unwrap()).collect();
        assert_eq!(replies, expected_replies);
        assert_eq!(state(&mvcc), state(&straight));
    }
}

#[test]
fn membership_and_log_id_come_back_with_the_data() {
    let (engine, mvcc) = open(MemEngine::volatile());
    // A log may begin at 0.
    let membership = |index, text: &str| Entry { payload: Payload::Membership(bytes(text)), ..blank(index) };
    mvcc.apply(vec![membership(0, "m0"), blank(1)]).unwrap();
    mvcc.flush().unwrap();
    mvcc.apply(vec![membership(2, "m2")]).unwrap();
    assert_eq!(mvcc.applied().membership, "m2");
    let (_, mvcc) = open(engine.crash());
    let applied = mvcc.applied();
    assert_eq!((applied.index, &applied.membership[..], &applied.log_id[..]), (1, &b"m0"[..], &1u64.to_be_bytes()[..]));
    assert_eq!(mvcc.revision(), 1);
    assert!(matches!(mvcc.apply(vec![blank(4)]), Err(MvccError::OutOfOrder { applied: 1, got: 4 })));
    mvcc.apply(vec![blank(0), blank(1), blank(2)]).unwrap();
    assert_eq!(mvcc.applied().index, 2);
}

fn blank(index: u64) -> Entry {
    Entry { index, term: 1, log_id: index.to_be_bytes().to_vec().into(), payload: Payload::Blank }
}
