//! Requests for the differential test: a table that covers the contract.

use keelstone_etcd_api::pb::{
    self,
    compare::{CompareResult, CompareTarget, TargetUnion},
    range_request::{SortOrder, SortTarget},
    request_op::Request as Op,
};

use crate::common::{get, put};

/// One call of the API.
#[derive(Clone, Debug)]
pub enum Call {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    Grant(pb::LeaseGrantRequest),
    Revoke(pb::LeaseRevokeRequest),
    KeepAlive(i64),
    TimeToLive(pb::LeaseTimeToLiveRequest),
    Leases,
}

pub fn delete(key: &str, range_end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.to_owned().into(), range_end: range_end.to_owned().into(), prev_kv: true }
}

pub fn all() -> pb::RangeRequest {
    pb::RangeRequest { range_end: "\0".into(), ..get("\0") }
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn compare(key: &str, result: CompareResult, union: TargetUnion) -> pb::Compare {
    let target = match union {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.to_owned().into(),
        target_union: Some(union),
        range_end: Default::default(),
    }
}

fn txn(compare: Vec<pb::Compare>, success: Vec<Op>, failure: Vec<Op>) -> Call {
    let ops = |list: Vec<Op>| list.into_iter().map(op).collect();
    Call::Txn(pb::TxnRequest { compare, success: ops(success), failure: ops(failure) })
}

/// Every rule of the contract that one request shows, in an order in which each finds what it needs.
pub fn table() -> Vec<Call> {
    let mut calls = keys();
    calls.extend(leases());
    calls.extend(txns());
    calls.extend(refusals());
    calls.extend(compaction());
    calls
}

fn keys() -> Vec<Call> {
    let sorted = |order: SortOrder, target: SortTarget| {
        Call::Range(pb::RangeRequest { sort_order: order.into(), sort_target: target.into(), ..all() })
    };
    let mut calls = vec![
        Call::Put(put("b", "1")),
        Call::Put(put("a", "3")),
        Call::Put(pb::PutRequest { prev_kv: true, ..put("b", "2") }),
        Call::Put(put("c", "")),
        Call::Put(pb::PutRequest { ignore_value: true, prev_kv: true, ..put("c", "") }),
        Call::Put(pb::PutRequest { ignore_lease: true, ..put("a", "4") }),
        Call::Range(get("a")),
        Call::Range(get("missing")),
        Call::Range(all()),
        Call::Range(pb::RangeRequest { range_end: "c".into(), ..get("a") }),
        Call::Range(pb::RangeRequest { range_end: "a".into(), ..get("c") }),
        Call::Range(pb::RangeRequest { limit: 1, ..all() }),
        Call::Range(pb::RangeRequest { limit: 3, ..all() }),
        Call::Range(pb::RangeRequest { limit: -1, ..all() }),
        Call::Range(pb::RangeRequest { revision: 3, ..all() }),
        Call::Range(pb::RangeRequest { revision: -5, ..all() }),
        Call::Range(pb::RangeRequest { keys_only: true, ..all() }),
        Call::Range(pb::RangeRequest { count_only: true, ..all() }),
        Call::Range(pb::RangeRequest { count_only: true, limit: 1, ..all() }),
        Call::Range(pb::RangeRequest { serializable: true, ..all() }),
        Call::Range(pb::RangeRequest { min_mod_revision: 4, ..all() }),
        Call::Range(pb::RangeRequest { max_mod_revision: 4, limit: 1, ..all() }),
        Call::Range(pb::RangeRequest { min_create_revision: 3, max_create_revision: 4, ..all() }),
    ];
    for order in [SortOrder::None, SortOrder::Ascend, SortOrder::Descend] {
        for target in [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value] {
            calls.push(sorted(order, target));
        }
    }
    calls.extend([
        Call::DeleteRange(delete("b", "")),
        Call::DeleteRange(delete("b", "")),
        Call::Put(put("b", "again")),
        Call::Range(get("b")),
        Call::Range(pb::RangeRequest { revision: 3, ..get("b") }),
        Call::DeleteRange(delete("a", "c")),
        Call::DeleteRange(delete("z", "\0")),
        Call::Range(all()),
    ]);
    calls
}

fn leases() -> Vec<Call> {
    let grant = |id, ttl| Call::Grant(pb::LeaseGrantRequest { id, ttl });
    let left = |id| Call::TimeToLive(pb::LeaseTimeToLiveRequest { id, keys: true });
    vec![
        grant(7, 1_000),
        grant(7, 1_000),
        grant(8, 9_000_000_001),
        Call::Put(pb::PutRequest { lease: 7, ..put("l1", "x") }),
        Call::Put(pb::PutRequest { lease: 7, ..put("l2", "x") }),
        Call::Put(pb::PutRequest { lease: 99, ..put("l3", "x") }),
        Call::Put(pb::PutRequest { ignore_lease: true, ..put("l2", "y") }),
        Call::Range(get("l2")),
        Call::Put(put("l1", "detached")),
        Call::KeepAlive(7),
        Call::KeepAlive(99),
        left(7),
        left(99),
        Call::Leases,
        Call::Revoke(pb::LeaseRevokeRequest { id: 7 }),
        Call::Revoke(pb::LeaseRevokeRequest { id: 7 }),
        Call::Range(all()),
        Call::Leases,
    ]
}

fn txns() -> Vec<Call> {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let then = || vec![Op::RequestPut(put("t", "then")), Op::RequestRange(get("t"))];
    let otherwise = || vec![Op::RequestPut(put("t", "else")), Op::RequestDeleteRange(delete("u", ""))];
    let mut calls = vec![
        txn(vec![], then(), otherwise()),
        txn(vec![compare("t", Equal, TargetUnion::Version(1))], then(), otherwise()),
        txn(vec![compare("t", Greater, TargetUnion::CreateRevision(1_000))], then(), otherwise()),
        txn(vec![compare("t", Less, TargetUnion::ModRevision(1_000))], then(), otherwise()),
        txn(vec![compare("t", NotEqual, TargetUnion::Value("then".into()))], then(), otherwise()),
        txn(vec![compare("t", Equal, TargetUnion::Lease(0))], then(), otherwise()),
        txn(vec![compare("missing", Equal, TargetUnion::Version(0))], then(), otherwise()),
        txn(vec![compare("missing", Equal, TargetUnion::ModRevision(0))], then(), otherwise()),
        txn(vec![compare("missing", Equal, TargetUnion::Value("".into()))], then(), otherwise()),
        txn(vec![], vec![Op::RequestRange(all())], vec![]),
        txn(vec![], vec![], vec![]),
        txn(vec![], vec![Op::RequestDeleteRange(delete("nothing", ""))], vec![]),
    ];
    let mut ranged = compare("t", Greater, TargetUnion::Version(0));
    ranged.range_end = "v".into();
    calls.push(txn(vec![ranged.clone()], then(), otherwise()));
    ranged.key = "x".into();
    ranged.range_end = "y".into();
    calls.push(txn(vec![ranged], then(), otherwise()));
    let nested = pb::TxnRequest {
        compare: vec![compare("t", Equal, TargetUnion::Value("then".into()))],
        success: vec![op(Op::RequestPut(put("n", "1"))), op(Op::RequestRange(get("t")))],
        failure: vec![op(Op::RequestPut(put("n", "2")))],
    };
    calls.push(txn(vec![], vec![Op::RequestPut(put("t", "then")), Op::RequestTxn(nested)], vec![]));
    // The second operation fails: nothing of the txn may stay.
    let broken = vec![Op::RequestPut(put("p", "1")), Op::RequestPut(pb::PutRequest { lease: 99, ..put("q", "1") })];
    calls.push(txn(vec![], broken, vec![]));
    let future = pb::RangeRequest { revision: 100_000, ..get("a") };
    calls.push(txn(vec![], vec![Op::RequestPut(put("p", "1")), Op::RequestRange(future)], vec![]));
    calls.push(Call::Range(all()));
    calls
}

fn refusals() -> Vec<Call> {
    let puts = |count: usize| (0..count).map(|i| Op::RequestPut(put(&format!("m{i:03}"), "x"))).collect::<Vec<_>>();
    vec![
        Call::Range(get("")),
        Call::Put(put("", "x")),
        Call::DeleteRange(delete("", "")),
        Call::Put(pb::PutRequest { ignore_value: true, ..put("a", "x") }),
        Call::Put(pb::PutRequest { ignore_lease: true, lease: 7, ..put("a", "x") }),
        Call::Put(pb::PutRequest { ignore_value: true, ..put("missing", "") }),
        Call::Put(pb::PutRequest { ignore_value: true, lease: 12345, ..put("missing", "") }),
        txn(
            vec![],
            vec![Op::RequestPut(pb::PutRequest { ignore_value: true, lease: 12345, ..put("missing", "") })],
            vec![],
        ),
        Call::Put(pb::PutRequest { ignore_lease: true, ..put("missing", "x") }),
        Call::Range(pb::RangeRequest { revision: 1_000_000, ..all() }),
        Call::Put(put("big", &"x".repeat(1_600_000))),
        txn(vec![], puts(128), vec![]),
        txn(vec![], puts(129), vec![]),
        txn(vec![], vec![Op::RequestPut(put("d", "1")), Op::RequestPut(put("d", "2"))], vec![]),
        txn(vec![], vec![Op::RequestPut(put("d", "1")), Op::RequestDeleteRange(delete("c", "e"))], vec![]),
        txn(vec![], vec![Op::RequestDeleteRange(delete("d", "")), Op::RequestDeleteRange(delete("c", "e"))], vec![]),
        txn(vec![], vec![Op::RequestPut(put("", "1"))], vec![]),
        txn(vec![compare("", CompareResult::Equal, TargetUnion::Version(0))], vec![], vec![]),
        Call::Txn(pb::TxnRequest { success: vec![pb::RequestOp { request: None }], ..Default::default() }),
    ]
}

fn compaction() -> Vec<Call> {
    let compact = |revision| Call::Compact(pb::CompactionRequest { revision, physical: true });
    vec![
        compact(1_000_000),
        compact(10),
        compact(10),
        compact(5),
        Call::Range(pb::RangeRequest { revision: 9, ..all() }),
        Call::Range(pb::RangeRequest { revision: 10, ..all() }),
        Call::Range(pb::RangeRequest { revision: 11, ..all() }),
        Call::Range(all()),
    ]
}

/// A reproducible source of numbers (xorshift).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
