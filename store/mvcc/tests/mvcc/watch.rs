//! Watches: slow ones, many, through compaction, beside a writer.

use std::sync::Arc;

use futures::FutureExt;
use keelstone_engine::MemEngine;
use keelstone_env::Env;
use keelstone_etcd_api::{mvccpb, pb::request_op::Request};
use keelstone_mvcc::{MvccOptions, Op, WatchBatch, WatchSpec, Watcher};

use crate::support::*;

fn store(window: usize, batch: usize, env: Option<Env>) -> Store {
    let options =
        MvccOptions { watch_window_events_max: window, watch_batch_events_max: batch, env, ..Default::default() };
    Store::with(MemEngine::volatile(), options)
}

fn spec(key: &str, end: &str, start_revision: i64) -> WatchSpec {
    WatchSpec { key: bytes(key), range_end: bytes(end), start_revision, prev_kv: true, ..Default::default() }
}

/// The next batch if there is one now.
fn poll(watcher: &mut Watcher) -> Option<WatchBatch> {
    watcher.next().now_or_never().map(|batch| batch.unwrap().expect("not ended"))
}

fn drain(watcher: &mut Watcher) -> Vec<mvccpb::Event> {
    let mut all = Vec::new();
    while let Some(batch) = poll(watcher) {
        let WatchBatch::Events { revision, events } = batch else { panic!("{batch:?}") };
        assert!(revision >= events.last().unwrap().kv.as_ref().unwrap().mod_revision);
        all.extend(events);
    }
    all
}

fn check_chain(events: &[mvccpb::Event]) {
    for event in events {
        let kv = event.kv.as_ref().unwrap();
        match &event.prev_kv {
            None => assert_eq!(kv.version, 1, "only a creation has no previous value"),
            Some(prev) => {
                assert_eq!(prev.key, kv.key);
                assert!(prev.mod_revision < kv.mod_revision);
                assert!(kv.version == 0 || kv.version == prev.version + 1);
            }
        }
    }
}

#[test]
fn slow_watchers_read_from_the_store() {
    for (window, batch) in [(1, 1), (1, 1000), (3, 2), (7, 1), (1000, 3), (1000, 1000)] {
        let store = store(window, batch, None);
        let mut slow = store.mvcc.watch(spec("\0", "\0", 0));
        let mut one = store.mvcc.watch(spec("k3", "", 0));
        let mut fast = store.mvcc.watch(spec("\0", "\0", 0));
        let mut from_fast = Vec::new();
        for i in 0..50 {
            let ops = (0..i % 4).map(|j| op(Request::RequestPut(put(&format!("k{j}"), &i.to_string()))));
            let txn = keelstone_etcd_api::pb::TxnRequest { success: ops.collect(), ..Default::default() };
            store.apply(Op::Txn(txn)).unwrap();
            store.put("k3", &i.to_string());
            if i % 9 == 0 {
                store.delete("k", "l");
            }
            if i % 2 == 0 {
                from_fast.extend(drain(&mut fast));
            }
        }
        from_fast.extend(drain(&mut fast));
        let from_slow = drain(&mut slow);
        check_chain(&from_slow);
        assert_eq!(from_slow, from_fast, "window {window}, batch {batch}");
        let of_one: Vec<_> = from_slow.iter().filter(|e| e.kv.as_ref().unwrap().key == "k3").cloned().collect();
        assert_eq!(drain(&mut one), of_one);
        for watcher in [&slow, &one, &fast] {
            assert_eq!(watcher.progress(), store.mvcc.revision());
        }
        for start in [1, 2, 20, store.mvcc.revision()] {
            let mut late = store.mvcc.watch(spec("\0", "\0", start));
            let expected = from_slow.iter().filter(|e| e.kv.as_ref().unwrap().mod_revision >= start);
            assert_eq!(drain(&mut late), expected.cloned().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_revision_is_never_split() {
    let store = store(2, 1, None);
    for i in 0..20 {
        store.put(&format!("k{i:02}"), "1");
    }
    let mut live = store.mvcc.watch(spec("k", "l", 0));
    assert_eq!(store.delete("k", "l"), 20);
    let revision = store.mvcc.revision();
    let mut late = store.mvcc.watch(spec("k", "l", revision));
    store.put("k", "after");
    for watcher in [&mut live, &mut late] {
        let Some(WatchBatch::Events { revision: upto, events }) = poll(watcher) else { panic!() };
        assert_eq!((upto, events.len()), (revision, 20));
    }
}

#[test]
fn a_slow_watcher_passed_by_compaction_is_told() {
    let store = store(4, 100, None);
    let mut slow = store.mvcc.watch(spec("a", "", 0));
    let mut idle = store.mvcc.watch(spec("other", "", 0));
    for i in 0..20 {
        store.put("a", &i.to_string());
    }
    store.compact(15).unwrap();
    store.sweep(2);
    assert_eq!(poll(&mut slow), Some(WatchBatch::Compacted { compact_revision: 15 }));
    assert!(matches!(slow.next().now_or_never(), Some(Ok(None))), "it has ended");
    // One that had nothing to read is not concerned, and may start where it is complete.
    assert_eq!((poll(&mut idle), idle.progress()), (None, store.mvcc.revision()));
    store.put("other", "1");
    assert_eq!(drain(&mut idle).len(), 1);
    let mut resumed = store.mvcc.watch(spec("a", "", 16));
    assert_eq!(drain(&mut resumed).len(), 6);
    let mut compacted = store.mvcc.watch(spec("a", "", 14));
    assert_eq!(poll(&mut compacted), Some(WatchBatch::Compacted { compact_revision: 15 }));
}

#[test]
fn progress_is_never_ahead_of_events() {
    let store = store(100, 2, None);
    let mut watcher = store.mvcc.watch(spec("a", "", 0));
    assert_eq!(watcher.progress(), 1);
    store.put("b", "1");
    assert_eq!(watcher.progress(), 2);
    (0..5).for_each(|i| {
        store.put("a", &i.to_string());
    });
    watcher.request_progress();
    assert_eq!(watcher.progress(), 2);
    let mut seen = Vec::new();
    while let Some(batch) = poll(&mut watcher) {
        seen.push(match batch {
            WatchBatch::Events { revision, events } => {
                assert_eq!(watcher.progress(), revision);
                events.len()
            }
            WatchBatch::Progress { revision } => {
                assert_eq!((revision, seen.iter().sum::<usize>()), (7, 5));
                0
            }
            WatchBatch::Compacted { .. } => panic!(),
        });
    }
    assert_eq!(seen, [2, 2, 1, 0]);
    let mut future = store.mvcc.watch(spec("a", "", 20));
    assert_eq!((poll(&mut future), future.progress()), (None, 7));
}

/// A writer, a compactor and watchers of different pace at the same time, with pages read elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_beside_a_writer_miss_nothing() {
    const WRITES: i64 = 2000;
    let env = Env::os();
    let store = Arc::new(store(50, 7, Some(env.clone())));
    let mut tasks = Vec::new();
    for reader in 0..6u64 {
        let mut watcher = store.mvcc.watch(spec("\0", "\0", 2));
        tasks.push(env.spawn(async move {
            let mut next = 2;
            while next < WRITES + 2 {
                match watcher.next().await.unwrap() {
                    Some(WatchBatch::Events { events, revision }) => {
                        check_chain(&events);
                        for event in events {
                            assert_eq!(event.kv.unwrap().mod_revision, next, "reader {reader}");
                            next += 1;
                        }
                        assert_eq!(revision, next - 1);
                    }
                    Some(WatchBatch::Compacted { compact_revision }) => {
                        assert!(compact_revision >= next, "reader {reader} could still read {next}");
                        return;
                    }
                    other => panic!("{other:?}"),
                }
                if reader % 3 == 1 {
                    tokio::task::yield_now().await;
                } else if reader % 3 == 2 {
                    tokio::time::sleep(std::time::Duration::from_micros(300)).await;
                }
            }
        }));
    }
    let writer = Arc::clone(&store);
    env.offload(move || {
        for i in 0..WRITES {
            writer.put(&format!("k{}", i % 5), &i.to_string());
            if i % 400 == 399 {
                writer.compact(i - 100).unwrap();
            }
            writer.mvcc.compact_step(3).unwrap();
        }
    })
    .await;
    for task in tasks {
        task.await.unwrap();
    }
}
