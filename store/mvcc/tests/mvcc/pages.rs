//! Many keys: counts and pages at any revision are those of the naive model, through cuts and merges of the
//! buckets that count, crashes at any flush boundary, compaction and a takeover of the older format.

use keelstone_etcd_api::pb::{self, request_op::Request};
use keelstone_mvcc::{constants::BUCKET_KEYS_MAX, Op, Response};
use proptest::prelude::*;

use crate::{model_state::Model, support::*};

const KEYS: u32 = 3 * BUCKET_KEYS_MAX as u32;

#[derive(Clone, Debug)]
enum Step {
    Put {
        from: u32,
        many: u32,
    },
    Delete {
        from: u32,
        many: u32,
    },
    /// So many hundredths of what may be compacted.
    Compact(i64),
    Sweep(usize),
    Flush,
    Crash,
    Page {
        from: u32,
        many: u32,
        limit: i64,
        back: i64,
    },
}

fn span() -> impl Strategy<Value = (u32, u32)> {
    (0..KEYS, prop_oneof![3 => 1..20u32, 2 => 100..KEYS])
}

fn step() -> impl Strategy<Value = Step> {
    let page = (span(), 0..40i64, prop_oneof![1 => Just(0), 2 => 0..30i64]);
    prop_oneof![
        5 => span().prop_map(|(from, many)| Step::Put { from, many }),
        3 => span().prop_map(|(from, many)| Step::Delete { from, many }),
        1 => (0..100i64).prop_map(Step::Compact),
        2 => (1..200usize).prop_map(Step::Sweep),
        1 => Just(Step::Flush),
        1 => Just(Step::Crash),
        8 => page.prop_map(|((from, many), limit, back)| Step::Page { from, many, limit, back }),
    ]
}

fn key(number: u32) -> String {
    format!("k{number:05}")
}

struct Pair {
    store: Store,
    model: Model,
    unflushed: Vec<Op>,
}

impl Pair {
    fn apply(&mut self, op: Op) -> keelstone_mvcc::Reply {
        self.unflushed.push(op.clone());
        self.store.apply(op)
    }

    /// Puts neighbouring keys, a hundred in each txn, so that one revision has many changes.
    fn put(&mut self, from: u32, many: u32) {
        for first in (from..from + many).step_by(100) {
            let puts = first..(first + 100).min(from + many);
            let success = puts.map(|number| op(Request::RequestPut(put(&key(number), "v")))).collect();
            let txn = pb::TxnRequest { success, ..Default::default() };
            let expected = self.model.txn(&txn).map(Response::Txn);
            assert_eq!(self.apply(Op::Txn(txn)), expected);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put { from, many } => self.put(from, many),
            Step::Delete { from, many } => {
                let request = delete(&key(from), &key(from + many));
                let expected = self.model.delete(&request);
                assert_eq!(self.apply(Op::DeleteRange(request)), Ok(Response::DeleteRange(expected)));
            }
            Step::Compact(percent) => {
                let from = self.model.compacted.max(0);
                let revision = from + (self.model.revision - from) * percent / 100;
                let expected = self.model.compact(revision);
                let request = pb::CompactionRequest { revision, physical: false };
                assert_eq!(self.apply(Op::Compact(request)).map(drop), expected);
            }
            Step::Sweep(budget) => {
                self.store.mvcc.compact_step(budget).unwrap();
            }
            Step::Flush => {
                self.store.mvcc.flush().unwrap();
                self.unflushed.clear();
            }
            Step::Crash => {
                self.store = self.store.crash();
                let ops = self.unflushed.clone();
                ops.into_iter().for_each(|op| drop(self.store.apply(op)));
            }
            Step::Page { from, many, limit, back } => {
                let revision = (self.model.revision - back).max(0);
                let request = pb::RangeRequest { limit, revision, ..range(&key(from), &key(from + many)) };
                self.page(&request);
                self.page(&pb::RangeRequest { count_only: true, range_end: bytes("\0"), ..request.clone() });
                self.page(&pb::RangeRequest { keys_only: true, revision: 0, ..request });
            }
        }
    }

    fn page(&self, request: &pb::RangeRequest) {
        assert_eq!(self.store.mvcc.range(request), self.model.range(request), "{request:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counts_and_pages_are_those_of_the_model(steps in proptest::collection::vec(step(), 1..40)) {
        let mut pair = Pair { store: Store::new(), model: Model::new(), unflushed: Vec::new() };
        steps.into_iter().for_each(|step| pair.step(step));
        while pair.store.mvcc.compact_step(50).unwrap() {}
        pair.store = pair.store.reopen();
        for back in 0..10 {
            let revision = (pair.model.revision - back).max(0);
            pair.page(&pb::RangeRequest { revision, limit: 7, ..range(&key(10), &key(KEYS)) });
        }
    }
}

#[test]
fn a_limited_page_reads_only_its_values() {
    let store = Store::new();
    for number in 0..2_000 {
        store.put(&key(number), &"v".repeat(1_000));
    }
    let mut asked = 0;
    let request = pb::RangeRequest { limit: 10, ..range(&key(0), &key(5_000)) };
    let response = store.mvcc.range_admitted(&request, &mut |bytes| {
        asked += bytes;
        Ok(())
    });
    let response = response.unwrap();
    assert_eq!((response.kvs.len(), response.count, response.more), (10, 2_000, true));
    assert!(asked < 20_000, "{asked} bytes for ten values");
}
