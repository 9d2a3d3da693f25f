//! A sync that fails may drop its data although the kernel goes on showing them ("fsyncgate"). What a process finds
//! when it starts again must be durable once it has opened its files.

use std::sync::Arc;

use keelstone_engine::{Batch, Column, Engine, MemEngine, MemOptions};
use keelstone_wal::{LogEntry, Wal, WalOptions};
use keelstone_world::{DiskFaults, Host};
use tokio::sync::oneshot;

const SEEDS: u64 = 40;

/// Whether the entry was acknowledged.
async fn append(wal: &Wal, index: u64) -> bool {
    let entry = LogEntry { index, term: 1, kind: 1, body: format!("entry {index}").into() };
    let (done, flushed) = oneshot::channel();
    let queued = wal.append(vec![entry], Box::new(move |result| drop(done.send(result)))).await;
    queued.is_ok() && matches!(flushed.await, Ok(Ok(())))
}

async fn open(host: &Host) -> Wal {
    Wal::open(host.env(), WalOptions::new("/data/wal")).await.expect("an undamaged log opens")
}

/// Every call fails for a while.
fn failing(host: &Host, error_percent: u64) {
    host.disk.set_faults(DiskFaults { error_percent, ..DiskFaults::default() });
}

#[tokio::test(start_paused = true)]
async fn what_the_log_shows_after_a_failed_sync_stays() {
    let mut shown = 0;
    for seed in 0..SEEDS {
        let host = Host::new(seed, "m1", 0);
        let wal = open(&host).await;
        assert!(append(&wal, 0).await);
        failing(&host, 40);
        let acknowledged = append(&wal, 1).await;
        failing(&host, 0);
        drop(wal);
        // The process starts again: what it finds counts as durable, and is acknowledged to the leader.
        let found = open(&host).await.state();
        shown += u32::from(!acknowledged && found.durable == 2);
        assert!(found.durable == 2 || !acknowledged, "seed {seed}");
        host.disk.crash();
        let left = open(&host).await.state();
        assert_eq!(left.durable, found.durable, "seed {seed}: a power loss took what was durable");
    }
    assert!(shown > 0, "no sync failed after its write");
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_shows_after_a_failed_flush_stays() {
    for seed in 0..SEEDS {
        let host = Host::new(seed, "m1", 0);
        let open = || Arc::new(MemEngine::open(host.env(), "/data/state", MemOptions::default()).expect("it opens"));
        let engine = open();
        let mut batch = Batch::default();
        batch.put(Column::Meta, "key", "value");
        engine.write(batch).expect("memory takes it");
        failing(&host, 40);
        let _ = engine.flush();
        failing(&host, 0);
        drop(engine);
        let found = open().durable_meta(b"key").expect("it reads");
        host.disk.crash();
        assert_eq!(open().durable_meta(b"key").expect("it reads"), found, "seed {seed}");
    }
}
