//! The log against a model, over random operations, reopenings included.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelstone_env::Env;
use keelstone_wal::{LogEntry, Wal, WalOptions};
use proptest::prelude::*;
use tokio::sync::oneshot;

#[derive(Clone, Debug)]
enum Step {
    Append { count: u64, bytes: usize },
    Truncate { back: u64 },
    Purge { ahead: u64 },
    Vote(u8),
    Committed(u8),
    Reopen,
    Read { from: u64, count: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..6, 0usize..200).prop_map(|(count, bytes)| Step::Append { count, bytes }),
        2 => (0u64..8).prop_map(|back| Step::Truncate { back }),
        2 => (0u64..12).prop_map(|ahead| Step::Purge { ahead }),
        1 => any::<u8>().prop_map(Step::Vote),
        1 => any::<u8>().prop_map(Step::Committed),
        2 => Just(Step::Reopen),
        2 => (0u64..60, 0u64..20).prop_map(|(from, count)| Step::Read { from, count }),
    ]
}

#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, LogEntry>,
    next: u64,
    purged: Option<u64>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    term: u64,
}

async fn open(dir: &std::path::Path, cache_bytes_max: usize) -> Wal {
    let options = WalOptions { segment_bytes_max: 700, cache_bytes_max, ..WalOptions::new(dir) };
    Wal::open(Env::os(), options).await.unwrap()
}

async fn perform(wal: &Wal, model: &mut Model, step: &Step) {
    match step {
        Step::Append { count, bytes } => {
            let made: Vec<LogEntry> = (model.next..model.next + count)
                .map(|index| LogEntry {
                    index,
                    term: model.term,
                    kind: u8::try_from(index % 3).unwrap(),
                    body: Bytes::from(vec![u8::try_from(index % 251).unwrap(); *bytes]),
                })
                .collect();
            let (done, flushed) = oneshot::channel();
            wal.append(made.clone(), Box::new(move |result| drop(done.send(result)))).await.unwrap();
            flushed.await.unwrap().unwrap();
            model.next += count;
            model.entries.extend(made.into_iter().map(|entry| (entry.index, entry)));
        }
        Step::Truncate { back } => {
            let from = model.next.saturating_sub(*back).max(model.purged.map_or(0, |purged| purged + 1));
            wal.truncate(from).await.unwrap();
            drop(model.entries.split_off(&from));
            model.next = from;
            model.term += 1;
        }
        Step::Purge { ahead } => {
            let through = model.purged.map_or(0, |purged| purged + 1) + ahead;
            wal.purge(through, Bytes::from(through.to_string())).await.unwrap();
            model.entries = model.entries.split_off(&(through + 1));
            model.next = model.next.max(through + 1);
            model.purged = Some(through);
        }
        Step::Vote(vote) => {
            model.vote = Some(vec![*vote].into());
            wal.save_vote(vec![*vote].into()).await.unwrap();
        }
        Step::Committed(mark) => {
            model.committed = Some(vec![*mark].into());
            wal.save_committed(vec![*mark].into()).await.unwrap();
        }
        Step::Read { from, count } => {
            let found = wal.read(*from, from + count, None).await.unwrap();
            let wanted: Vec<LogEntry> =
                model.entries.range(*from..from + count).map(|(_, entry)| entry.clone()).collect();
            assert_eq!(found, wanted);
        }
        Step::Reopen => {}
    }
}

async fn check(wal: &Wal, model: &Model) {
    let wanted: Vec<LogEntry> = model.entries.values().cloned().collect();
    assert_eq!(wal.read(0, u64::MAX, None).await.unwrap(), wanted);
    let state = wal.state();
    assert_eq!(state.vote, model.vote);
    assert_eq!(state.committed, model.committed);
    assert_eq!(state.purged.map(|(through, _)| through), model.purged);
    assert_eq!(state.last, model.entries.values().next_back().map(|entry| (entry.index, entry.term)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_its_model(steps in prop::collection::vec(step(), 1..60), cache in prop_oneof![Just(0usize), Just(400), Just(1 << 20)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut wal = open(dir.path(), cache).await;
            let mut model = Model::default();
            for step in &steps {
                perform(&wal, &mut model, step).await;
                if matches!(step, Step::Reopen) {
                    wal.sync().await.unwrap();
                    drop(wal);
                    wal = open(dir.path(), cache).await;
                }
                check(&wal, &model).await;
            }
        });
    }
}
