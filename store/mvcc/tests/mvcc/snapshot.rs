//! Snapshots: pinned, sent in chunks, installed or not.

use futures::FutureExt;
use keelstone_etcd_api::pb;
use keelstone_mvcc::{Applied, Mvcc, MvccError, Op, WatchBatch, WatchSpec};

use crate::support::*;

fn chunks(mvcc: &Mvcc) -> (Vec<bytes::Bytes>, Applied) {
    let mut pinned = mvcc.pin().unwrap();
    let chunks = std::iter::from_fn(|| pinned.next_chunk().unwrap()).collect();
    (chunks, pinned.applied())
}

fn install(mvcc: &Mvcc, chunks: &[bytes::Bytes], applied: Applied) -> Result<(), MvccError> {
    let mut installer = mvcc.begin_install()?;
    chunks.iter().try_for_each(|chunk| installer.chunk(chunk.clone()))?;
    installer.finish(applied)
}

fn source() -> Store {
    let store = Store::new();
    store.apply(Op::LeaseGrant(pb::LeaseGrantRequest { id: 5, ttl: 60 })).unwrap();
    store.apply(Op::Put(pb::PutRequest { lease: 5, ..put("leased", "x") })).unwrap();
    for i in 0..40 {
        store.put(&format!("k{}", i % 8), &format!("{i}").repeat(40_000));
    }
    store.compact(20).unwrap();
    let alarm = pb::AlarmType::Nospace as i32;
    store.apply(Op::Alarm(pb::AlarmRequest { action: 1, member_id: 3, alarm })).unwrap();
    store
}

fn assert_same(a: &Mvcc, b: &Mvcc) {
    assert_eq!(a.state_hash(), b.state_hash());
    assert_eq!(a.hash_kv(0).unwrap(), b.hash_kv(0).unwrap());
    assert_eq!((a.applied(), a.leases(), a.lease_keys(5)), (b.applied(), b.leases(), b.lease_keys(5)));
    assert_eq!(a.alarms(), b.alarms());
}

#[test]
fn an_installed_snapshot_is_the_pinned_state() {
    let from = source();
    let mut pinned = from.mvcc.pin().unwrap();
    let (expected, applied) = chunks(&from.mvcc);
    assert!(expected.len() > 3 && expected.iter().all(|chunk| chunk.len() < 2 << 20));
    let copy = Store::new();
    // The source goes on, and what was pinned stays.
    from.sweep(100);
    from.delete("\0", "\0");
    let sent: Vec<_> = std::iter::from_fn(|| pinned.next_chunk().unwrap()).collect();
    assert!(sent == expected);
    (0..10).for_each(|i| {
        copy.put("old", &i.to_string());
    });
    install(&copy.mvcc, &sent, applied.clone()).unwrap();
    assert_eq!(copy.mvcc.applied(), applied);
    assert_eq!(copy.get("old"), None);
    assert_eq!(copy.mvcc.durable_index(), applied.index, "durable when it returns");
    let again = Store::new();
    install(&again.mvcc, &chunks(&copy.crash().mvcc).0, applied.clone()).unwrap();
    assert_same(&again.mvcc, &copy.mvcc);
    // Both go on equally, and the other generation is used the next time.
    for store in [&copy, &again] {
        store.next_index.store(applied.index + 1, std::sync::atomic::Ordering::SeqCst);
        store.apply(Op::DeleteRange(delete("k1", "k9"))).unwrap();
        store.sweep(7);
    }
    assert_same(&again.mvcc, &copy.mvcc);
    let (next, applied) = chunks(&copy.mvcc);
    install(&again.mvcc, &next, applied).unwrap();
    assert_same(&again.reopen().mvcc, &copy.mvcc);
}

#[test]
fn a_stopped_install_leaves_the_old_state() {
    let (sent, applied) = chunks(&source().mvcc);
    for stop in 0..=sent.len() {
        let store = Store::new();
        store.put("old", "1");
        let before = store.mvcc.state_hash();
        let mut installer = store.mvcc.begin_install().unwrap();
        sent[..stop].iter().for_each(|chunk| installer.chunk(chunk.clone()).unwrap());
        store.put("old", "2");
        assert_eq!(store.get("old"), Some("2".into()));
        store.mvcc.flush().unwrap();
        let store = store.crash();
        assert_ne!(store.mvcc.state_hash(), before);
        assert_eq!(store.get("old"), Some("2".into()));
        assert_eq!(store.mvcc.hash_kv(0).unwrap().2, 3);
        install(&store.mvcc, &sent, applied.clone()).unwrap();
        assert_eq!(store.mvcc.applied(), applied);
    }
}

#[test]
fn damaged_or_incomplete_chunks_are_refused() {
    let (sent, applied) = chunks(&source().mvcc);
    let store = Store::new();
    store.put("old", "1");
    let refused = |chunks: &[bytes::Bytes], applied: &Applied| {
        let result = install(&store.mvcc, chunks, applied.clone());
        assert!(matches!(result, Err(MvccError::Snapshot(_))), "{result:?}");
        assert_eq!(store.get("old"), Some("1".into()));
    };
    refused(&sent[..sent.len() - 1], &applied);
    refused(&sent[1..], &applied);
    refused(&[], &applied);
    let mut twice = sent.clone();
    twice.insert(1, sent[0].clone());
    refused(&twice, &applied);
    for at in [0, 5, sent[1].len() - 1] {
        let mut damaged = sent.clone();
        let mut chunk = damaged[1].to_vec();
        chunk[at] ^= 0x20;
        damaged[1] = chunk.into();
        refused(&damaged, &applied);
    }
    refused(&sent, &Applied { index: applied.index + 1, ..applied.clone() });
    let mut first = store.mvcc.begin_install().unwrap();
    let _second = store.mvcc.begin_install().unwrap();
    assert!(first.chunk(sent[0].clone()).is_err(), "a newer install ends an older one");
    // A snapshot of the past is refused.
    for _ in 0..100 {
        store.put("old", "1");
    }
    assert!(matches!(install(&store.mvcc, &sent, applied), Err(MvccError::OutOfOrder { .. })));
    assert_eq!(store.get("old"), Some("1".into()));
}

#[test]
fn watchers_go_on_through_an_install() {
    let from = Store::new();
    let to = Store::new();
    for store in [&from, &to] {
        store.put("a", "1");
    }
    let mut watcher = to.mvcc.watch(WatchSpec { key: bytes("a"), prev_kv: true, ..Default::default() });
    let mut late = to.mvcc.watch(WatchSpec { key: bytes("a"), start_revision: 4, ..Default::default() });
    assert!(watcher.next().now_or_never().is_none());
    (2..6).for_each(|i| {
        from.put("a", &i.to_string());
    });
    let (sent, applied) = chunks(&from.mvcc);
    install(&to.mvcc, &sent, applied).unwrap();
    let revisions = |batch: Option<Result<Option<WatchBatch>, MvccError>>| match batch {
        Some(Ok(Some(WatchBatch::Events { events, .. }))) => {
            events.iter().map(|e| e.kv.as_ref().unwrap().mod_revision).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(revisions(watcher.next().now_or_never()), [3, 4, 5, 6]);
    assert_eq!(revisions(late.next().now_or_never()), [4, 5, 6]);
    assert!(watcher.next().now_or_never().is_none());
    // Compacted in the snapshot beyond what a watcher has seen: it is told.
    let mut watcher = to.mvcc.watch(WatchSpec { key: bytes("a"), ..Default::default() });
    (6..9).for_each(|i| {
        from.put("a", &i.to_string());
    });
    from.compact(9).unwrap();
    let (sent, applied) = chunks(&from.mvcc);
    install(&to.mvcc, &sent, applied).unwrap();
    let batch = watcher.next().now_or_never().unwrap().unwrap();
    assert_eq!(batch, Some(WatchBatch::Compacted { compact_revision: 9 }));
}
