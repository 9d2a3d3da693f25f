//! RocksDB through the conformance suite, and what is special to it.

use std::sync::Arc;

use keelstone_engine::{conformance, Batch, Column, Engine};
use keelstone_engine_rocks::{RocksEngine, RocksOptions};

#[test]
fn rocks_engine_conforms() {
    for write_buffer_bytes in [64 << 20, 1 << 16] {
        let root = tempfile::tempdir().unwrap();
        let next = std::cell::Cell::new(0);
        let options = RocksOptions { write_buffer_bytes, ..RocksOptions::default() };
        conformance::run(|| {
            next.set(next.get() + 1);
            let dir = root.path().join(next.get().to_string());
            Box::new(move || Arc::new(RocksEngine::open(&dir, options).unwrap()))
        });
    }
}

#[test]
fn a_second_open_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let engine = RocksEngine::open(root.path(), RocksOptions::default()).unwrap();
    assert!(RocksEngine::open(root.path(), RocksOptions::default()).is_err());
    drop(engine);
    RocksEngine::open(root.path(), RocksOptions::default()).unwrap();
}

#[test]
fn sizes_follow_the_data() {
    let root = tempfile::tempdir().unwrap();
    let engine = RocksEngine::open(root.path(), RocksOptions::default()).unwrap();
    let mut batch = Batch::default();
    for key in 0..100u32 {
        let noise: Vec<u8> = (0..10_000u32).map(|i| (i.wrapping_mul(key * 2 + 1) >> 3) as u8).collect();
        batch.put(Column::Revisions, key.to_be_bytes().to_vec(), noise);
    }
    engine.write(batch).unwrap();
    assert!(engine.size_bytes().unwrap().1 >= 1_000_000);
    engine.flush().unwrap();
    assert!(engine.size_bytes().unwrap().0 > 10_000);
}
