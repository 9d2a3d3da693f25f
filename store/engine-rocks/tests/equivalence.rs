//! RocksDB and the memory engine, which stands for it in simulation, answer alike.

use bytes::Bytes;
use keelstone_engine::{Batch, Column, Direction, Engine, MemEngine, RangeRequest, Snapshot, Write};
use keelstone_engine_rocks::{RocksEngine, RocksOptions};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Write>),
    Range(RangeRequest),
    Snapshot,
    Flush,
    Reopen,
}

fn column() -> impl Strategy<Value = Column> {
    proptest::sample::select(&Column::ALL[..2])
}

fn key() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(proptest::sample::select(vec![0u8, 1, 255]), 0..3).prop_map(Bytes::from)
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        6 => (column(), key(), key()).prop_map(|(column, key, value)| Write::Put { column, key, value }),
        2 => (column(), key()).prop_map(|(column, key)| Write::Delete { column, key }),
        1 => (column(), key(), key()).prop_map(|(column, start, end)| Write::DeleteRange { column, start, end }),
    ]
}

fn range() -> impl Strategy<Value = RangeRequest> {
    let direction = proptest::sample::select(vec![Direction::Ascending, Direction::Descending]);
    (column(), key(), proptest::option::of(key()), direction, 0..6usize)
        .prop_map(|(column, start, end, direction, limit)| RangeRequest { column, start, end, direction, limit })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(write(), 1..6).prop_map(Step::Write),
        6 => range().prop_map(Step::Range),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

fn all(column: Column) -> RangeRequest {
    RangeRequest { column, start: Bytes::new(), end: None, direction: Direction::Ascending, limit: 1000 }
}

fn assert_same_view(rocks: &dyn Snapshot, mem: &dyn Snapshot) {
    for column in Column::ALL {
        let page = rocks.range(&all(column)).unwrap();
        assert_eq!(page, mem.range(&all(column)).unwrap());
        for (key, value) in page.pairs {
            assert_eq!(rocks.get(column, &key).unwrap(), Some(value));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rocks_answers_as_the_memory_engine(steps in proptest::collection::vec(step(), 1..60)) {
        let root = tempfile::tempdir().unwrap();
        let open = || RocksEngine::open(root.path(), RocksOptions::default()).unwrap();
        let (mut rocks, mut mem) = (open(), MemEngine::volatile());
        let mut snapshots = Vec::new();
        for step in steps {
            match step {
                Step::Write(writes) => {
                    rocks.write(Batch { writes: writes.clone() }).unwrap();
                    mem.write(Batch { writes }).unwrap();
                }
                Step::Range(request) => assert_eq!(rocks.range(&request).unwrap(), mem.range(&request).unwrap()),
                Step::Snapshot => snapshots.push((rocks.snapshot().unwrap(), mem.snapshot().unwrap())),
                Step::Flush => {
                    rocks.flush().unwrap();
                    mem.flush().unwrap();
                }
                Step::Reopen => {
                    // Snapshots keep a database open.
                    snapshots.drain(..).for_each(|(a, b)| assert_same_view(&*a, &*b));
                    rocks.flush().unwrap();
                    mem.flush().unwrap();
                    drop(rocks);
                    (rocks, mem) = (open(), mem.crash());
                }
            }
        }
        for (a, b) in snapshots {
            assert_same_view(&*a, &*b);
        }
        assert_same_view(&*rocks.snapshot().unwrap(), &*mem.snapshot().unwrap());
    }
}
