//! Random histories: the store answers as the naive model does, whatever is flushed, swept, crashed or sent as
//! a snapshot in between.

use futures::FutureExt;
use keelstone_engine::MemEngine;
use keelstone_etcd_api::pb::{self, compare::TargetUnion, request_op::Request};
use keelstone_mvcc::{check, constants, MvccOptions, Op, Response, WatchBatch, WatchSpec};
use proptest::prelude::*;

use crate::{model_state::Model, support::*};

const KEYS: [&str; 6] = ["a", "b", "ba", "c", "d", "\0"];

#[derive(Clone, Debug)]
enum Step {
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Range(pb::RangeRequest),
    /// Back from the current revision.
    Compact(i64),
    Sweep(usize),
    Flush,
    /// Loses what was applied after the last flush, and applies it again.
    Crash,
    Snapshot,
}

fn key() -> impl Strategy<Value = String> {
    proptest::sample::select(&KEYS[..5]).prop_map(str::to_owned)
}

fn end() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 3 => proptest::sample::select(&KEYS[..]).prop_map(str::to_owned)]
}

fn put_request() -> impl Strategy<Value = pb::PutRequest> {
    (key(), "[x-z]{0,2}", any::<bool>())
        .prop_map(|(key, value, prev_kv)| pb::PutRequest { prev_kv, ..put(&key, &value) })
}

fn delete_request() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (key(), end(), any::<bool>())
        .prop_map(|(key, end, prev_kv)| pb::DeleteRangeRequest { prev_kv, ..delete(&key, &end) })
}

fn range_request() -> impl Strategy<Value = pb::RangeRequest> {
    let sort =
        prop_oneof![4 => Just((0, 0)), 1 => Just((2, 0)), 1 => Just((1, 1)), 1 => Just((1, 3)), 1 => Just((1, 4))];
    let filters = (prop_oneof![3 => Just(0), 1 => 0..20i64], prop_oneof![3 => Just(0), 1 => 0..20i64]);
    let flags = (proptest::bool::weighted(0.2), proptest::bool::weighted(0.1));
    (key(), end(), 0..4i64, prop_oneof![2 => Just(0), 2 => 0..40i64], sort, filters, flags).prop_map(
        |(key, end, limit, revision, (sort_order, sort_target), (min_mod, max_create), (keys_only, count_only))| {
            pb::RangeRequest {
                key: bytes(&key),
                range_end: bytes(&end),
                limit,
                revision,
                sort_order,
                sort_target,
                min_mod_revision: min_mod,
                max_create_revision: max_create,
                keys_only,
                count_only,
                ..Default::default()
            }
        },
    )
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    (key(), end(), 0..4i32, 0..5i32, 0..12i64, "[x-z]{0,1}").prop_map(|(key, end, result, target, number, value)| {
        let union = match target {
            0 => TargetUnion::Version(number % 4),
            1 => TargetUnion::CreateRevision(number),
            2 => TargetUnion::ModRevision(number),
            3 => TargetUnion::Value(bytes(&value)),
            _ => TargetUnion::Lease(number % 2),
        };
        pb::Compare { result, target, key: bytes(&key), range_end: bytes(&end), target_union: Some(union) }
    })
}

fn branch() -> impl Strategy<Value = Vec<pb::RequestOp>> {
    let request = prop_oneof![
        put_request().prop_map(Request::RequestPut),
        delete_request().prop_map(Request::RequestDeleteRange),
        range_request().prop_map(Request::RequestRange),
    ];
    proptest::collection::vec(request.prop_map(op), 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    let txn = (proptest::collection::vec(compare(), 0..2), branch(), branch())
        .prop_map(|(compare, success, failure)| Step::Txn(pb::TxnRequest { compare, success, failure }));
    prop_oneof![
        6 => put_request().prop_map(Step::Put),
        2 => delete_request().prop_map(Step::Delete),
        4 => txn,
        6 => range_request().prop_map(Step::Range),
        1 => (-2..12i64).prop_map(Step::Compact),
        2 => (1..5usize).prop_map(Step::Sweep),
        1 => Just(Step::Flush),
        1 => Just(Step::Crash),
        1 => Just(Step::Snapshot),
    ]
}

struct Pair {
    store: Store,
    model: Model,
    /// Commands since the last flush.
    unflushed: Vec<Op>,
}

impl Pair {
    fn apply(&mut self, op: Op) -> keelstone_mvcc::Reply {
        self.unflushed.push(op.clone());
        self.store.apply(op)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(request) => {
                let expected = self.model.put(&request);
                assert_eq!(self.apply(Op::Put(request)), Ok(Response::Put(expected)));
            }
            Step::Delete(request) => {
                let expected = self.model.delete(&request);
                assert_eq!(self.apply(Op::DeleteRange(request)), Ok(Response::DeleteRange(expected)));
            }
            Step::Txn(request) => {
                if check::txn(&request, constants::TXN_OPS_MAX).is_ok() {
                    let expected = self.model.txn(&request);
                    assert_eq!(self.apply(Op::Txn(request)), expected.map(Response::Txn));
                }
            }
            Step::Range(request) => assert_eq!(self.store.mvcc.range(&request), self.model.range(&request)),
            Step::Compact(back) => {
                let revision = self.model.revision - back;
                let expected = self.model.compact(revision);
                let request = pb::CompactionRequest { revision, physical: false };
                assert_eq!(self.apply(Op::Compact(request)).map(drop), expected);
            }
            Step::Sweep(budget) => drop(self.store.mvcc.compact_step(budget).unwrap()),
            Step::Flush => {
                self.store.mvcc.flush().unwrap();
                self.unflushed.clear();
            }
            Step::Crash => self.crash(),
            Step::Snapshot => self.snapshot(),
        }
        assert_eq!(self.store.mvcc.revision(), self.model.revision);
    }

    fn crash(&mut self) {
        let before = self.store.mvcc.state_hash();
        self.store = self.store.crash();
        for op in &self.unflushed {
            let _ = self.store.apply(op.clone());
        }
        assert_eq!(self.store.mvcc.state_hash(), before);
    }

    fn snapshot(&mut self) {
        let mut pinned = self.store.mvcc.pin().unwrap();
        let copy = Store::new();
        let mut installer = copy.mvcc.begin_install().unwrap();
        while let Some(chunk) = pinned.next_chunk().unwrap() {
            installer.chunk(chunk).unwrap();
        }
        if self.store.mvcc.applied().index == 0 {
            assert!(installer.finish(pinned.applied()).is_err());
            return;
        }
        installer.finish(pinned.applied()).unwrap();
        assert_eq!(copy.mvcc.state_hash(), self.store.mvcc.state_hash());
        assert_eq!(copy.mvcc.hash_kv(0).unwrap(), self.store.mvcc.hash_kv(0).unwrap());
        let next = self.store.next_index.load(std::sync::atomic::Ordering::SeqCst);
        copy.next_index.store(next, std::sync::atomic::Ordering::SeqCst);
        self.store = copy;
        self.unflushed.clear();
    }

    /// Every readable revision reads as in the model, and a watch tells all events since.
    fn check_all(&self) {
        let first = self.model.compacted.max(1);
        for revision in first..=self.model.revision {
            let request = pb::RangeRequest { key: bytes("\0"), range_end: bytes("\0"), revision, ..Default::default() };
            assert_eq!(self.store.mvcc.range(&request), self.model.range(&request));
        }
        let start_revision = self.model.compacted + 1;
        let spec = WatchSpec { key: bytes("\0"), range_end: bytes("\0"), prev_kv: true, ..Default::default() };
        let mut watcher = self.store.mvcc.watch(WatchSpec { start_revision: start_revision.max(1), ..spec });
        let mut seen = Vec::new();
        while let Some(batch) = watcher.next().now_or_never() {
            let Some(WatchBatch::Events { events, .. }) = batch.unwrap() else { panic!("compacted") };
            seen.extend(events.into_iter().map(|event| event.kv.unwrap()));
        }
        let expected: Vec<_> =
            self.model.history.iter().filter(|kv| kv.mod_revision >= start_revision).cloned().collect();
        assert_eq!(seen, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_answers_as_the_model(
        steps in proptest::collection::vec(step(), 1..60),
        window in 1..20usize,
        batch in 1..8usize,
    ) {
        let options = MvccOptions {
            watch_window_events_max: window,
            watch_batch_events_max: batch,
            ..MvccOptions::default()
        };
        let store = Store::with(MemEngine::volatile(), options);
        let mut pair = Pair { store, model: Model::new(), unflushed: Vec::new() };
        steps.into_iter().for_each(|step| pair.step(step));
        pair.check_all();
        while pair.store.mvcc.compact_step(2).unwrap() {}
        pair.check_all();
        pair.store = pair.store.reopen();
        pair.check_all();
    }
}
