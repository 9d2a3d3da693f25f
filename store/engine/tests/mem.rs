//! The memory engine: the conformance suite on both kinds of it, and its file's damage.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use keelstone_engine::{conformance, Batch, Column, Engine, EngineError, MemEngine, MemOptions};
use keelstone_env::Env;

fn open(dir: &Path) -> Result<MemEngine, EngineError> {
    MemEngine::open(Env::os(), dir, MemOptions::default())
}

fn put(engine: &MemEngine, key: &str, value: impl Into<Bytes>) {
    let mut batch = Batch::default();
    batch.put(Column::Meta, key.to_owned(), value);
    engine.write(batch).unwrap();
}

#[test]
fn mem_engine_conforms() {
    for self_flush_one_in in [0, 2] {
        let root = tempfile::tempdir().unwrap();
        let next = std::cell::Cell::new(0);
        conformance::run(|| {
            next.set(next.get() + 1);
            let dir = root.path().join(next.get().to_string());
            let options = MemOptions { self_flush_one_in };
            Box::new(move || Arc::new(MemEngine::open(Env::os(), &dir, options).unwrap()))
        });
    }
}

#[test]
fn a_crash_goes_back_to_the_last_flush() {
    let engine = MemEngine::volatile();
    put(&engine, "a", "1");
    engine.flush().unwrap();
    put(&engine, "a", "2");
    assert_eq!(engine.crash().get(Column::Meta, b"a").unwrap(), Some("1".into()));
}

#[test]
fn a_torn_flush_is_cut() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("engine.mem");
    let engine = open(root.path()).unwrap();
    put(&engine, "a", "1");
    engine.flush().unwrap();
    let before = Env::os().disk().read(&file).unwrap().len();
    put(&engine, "a", "2");
    engine.flush().unwrap();
    drop(engine);
    let whole = Env::os().disk().read(&file).unwrap();
    for cut in before + 1..whole.len() {
        Env::os().disk().write_atomically(&file, &whole[..cut]).unwrap();
        let engine = open(root.path()).unwrap();
        assert_eq!(engine.get(Column::Meta, b"a").unwrap(), Some("1".into()), "cut at {cut}");
        put(&engine, "b", "3");
        engine.flush().unwrap();
        drop(engine);
        assert_eq!(open(root.path()).unwrap().get(Column::Meta, b"b").unwrap(), Some("3".into()));
    }
}

#[test]
fn damage_in_the_middle_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let engine = open(root.path()).unwrap();
    for step in 0..3 {
        put(&engine, "a", step.to_string());
        engine.flush().unwrap();
    }
    drop(engine);
    let file = root.path().join("engine.mem");
    let whole = Env::os().disk().read(&file).unwrap();
    for at in [0, 9, 30, 60] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        Env::os().disk().write_atomically(&file, &damaged).unwrap();
        assert!(matches!(open(root.path()), Err(EngineError::Corrupt(_))), "byte {at}");
    }
}

#[test]
fn garbage_is_rewritten() {
    let root = tempfile::tempdir().unwrap();
    let engine = open(root.path()).unwrap();
    let value = Bytes::from(vec![7; 100_000]);
    for _ in 0..50 {
        put(&engine, "a", value.clone());
        engine.flush().unwrap();
    }
    let (on_disk, live) = engine.size_bytes().unwrap();
    assert!(on_disk < 1_200_000 && live < 101_000, "{on_disk} {live}");
    drop(engine);
    assert_eq!(open(root.path()).unwrap().get(Column::Meta, b"a").unwrap(), Some(value));
}
