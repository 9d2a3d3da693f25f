//! Random programs of requests.
//!
//! Revisions in them are relative: 0 or small positive numbers stand for themselves, -1 for the revision at the
//! time, -2 for the one before it, and `AHEAD + n` for n revisions that are still to come.

use keelstone_etcd_api::pb::{self, compare::TargetUnion, request_op::Request as Op};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::requests::Call;

const AHEAD: i64 = i64::MAX / 2;

/// One step of a program.
#[derive(Clone, Debug)]
pub enum Step {
    Call(Call),
    /// Opens a watch; the program numbers them.
    Watch(pb::WatchCreateRequest),
    /// Cancels one of the live watches, counted around.
    Cancel(usize),
}

/// The number that a relative revision stands for when `now` is the current one.
fn absolute(revision: i64, now: i64) -> i64 {
    match revision {
        r if r < 0 => (now + 1 + r).max(0),
        r if r >= AHEAD => now + (r - AHEAD),
        r => r,
    }
}

impl Step {
    /// With absolute revisions.
    pub fn at(&self, now: i64) -> Self {
        let mut step = self.clone();
        match &mut step {
            Self::Call(Call::Range(request)) => place_range(request, now),
            Self::Call(Call::Txn(request)) => place_txn(request, now),
            Self::Call(Call::Compact(request)) => request.revision = absolute(request.revision, now),
            Self::Watch(request) => request.start_revision = absolute(request.start_revision, now),
            Self::Call(_) | Self::Cancel(_) => {}
        }
        step
    }
}

fn place_range(request: &mut pb::RangeRequest, now: i64) {
    for revision in [
        &mut request.revision,
        &mut request.min_mod_revision,
        &mut request.max_mod_revision,
        &mut request.min_create_revision,
        &mut request.max_create_revision,
    ] {
        *revision = absolute(*revision, now);
    }
}

fn place_txn(request: &mut pb::TxnRequest, now: i64) {
    for compare in &mut request.compare {
        if let Some(TargetUnion::ModRevision(revision) | TargetUnion::CreateRevision(revision)) =
            &mut compare.target_union
        {
            *revision = absolute(*revision, now);
        }
    }
    for op in request.success.iter_mut().chain(&mut request.failure) {
        match &mut op.request {
            Some(Op::RequestRange(range)) => place_range(range, now),
            Some(Op::RequestTxn(txn)) => place_txn(txn, now),
            _ => {}
        }
    }
}

/// A program of up to `steps_max` steps.
pub fn program(steps_max: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..=steps_max)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => put().prop_map(|request| Step::Call(Call::Put(request))),
        6 => delete().prop_map(|request| Step::Call(Call::DeleteRange(request))),
        12 => range().prop_map(|request| Step::Call(Call::Range(request))),
        14 => txn(2).prop_map(|request| Step::Call(Call::Txn(request))),
        2 => compaction().prop_map(|request| Step::Call(Call::Compact(request))),
        6 => lease_call().prop_map(Step::Call),
        5 => watch().prop_map(Step::Watch),
        2 => (0_usize..8).prop_map(Step::Cancel),
    ]
}

fn key() -> impl Strategy<Value = bytes::Bytes> {
    select(vec!["a", "b", "c", "ca", "d", "\u{1}"]).prop_map(|key| key.as_bytes().to_vec().into())
}

fn range_end() -> impl Strategy<Value = bytes::Bytes> {
    select(vec!["", "", "", "b", "c", "d", "e", "\0", "a\0"]).prop_map(|key| key.as_bytes().to_vec().into())
}

fn value() -> impl Strategy<Value = bytes::Bytes> {
    select(vec!["", "v0", "v1", "v2"]).prop_map(|value| value.as_bytes().to_vec().into())
}

fn lease_id() -> impl Strategy<Value = i64> {
    select(vec![0_i64, 0, 0, 7, 7, 8, 99])
}

/// Mostly none; else recent ones, some ahead.
fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0), 4 => -12_i64..=-1, 1 => 1_i64..4, 1 => Just(AHEAD + 2)]
}

/// For filters and comparisons: recent ones.
fn recent() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0_i64), 3 => -12_i64..=-1]
}

fn put() -> impl Strategy<Value = pb::PutRequest> {
    (key(), value(), lease_id(), any::<bool>(), proptest::bool::weighted(0.1), proptest::bool::weighted(0.1)).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| pb::PutRequest {
            key,
            value,
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| pb::DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn range() -> impl Strategy<Value = pb::RangeRequest> {
    let place = (key(), range_end(), -1_i64..4, revision());
    let order = (0_i32..3, 0_i32..5);
    let switches = (any::<bool>(), proptest::bool::weighted(0.2), proptest::bool::weighted(0.2));
    let filters = option::weighted(0.3, (recent(), recent(), recent(), recent()));
    (place, order, switches, filters).prop_map(|((key, range_end, limit, revision), order, switches, filters)| {
        let (min_mod_revision, max_mod_revision, min_create_revision, max_create_revision) =
            filters.unwrap_or_default();
        pb::RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order: order.0,
            sort_target: order.1,
            serializable: switches.0,
            keys_only: switches.1,
            count_only: switches.2,
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        }
    })
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    let union = prop_oneof![
        (0_i64..4).prop_map(TargetUnion::Version),
        recent().prop_map(TargetUnion::CreateRevision),
        recent().prop_map(TargetUnion::ModRevision),
        value().prop_map(TargetUnion::Value),
        lease_id().prop_map(TargetUnion::Lease),
    ];
    (key(), range_end(), 0_i32..4, union).prop_map(|(key, range_end, result, union)| pb::Compare {
        result,
        target: match union {
            TargetUnion::Version(_) => 0,
            TargetUnion::CreateRevision(_) => 1,
            TargetUnion::ModRevision(_) => 2,
            TargetUnion::Value(_) => 3,
            TargetUnion::Lease(_) => 4,
        },
        key,
        range_end,
        target_union: Some(union),
    })
}

fn txn(depth: u32) -> BoxedStrategy<pb::TxnRequest> {
    let ops = || vec(op(depth), 0..4);
    (vec(compare(), 0..3), ops(), ops())
        .prop_map(|(compare, success, failure)| pb::TxnRequest { compare, success, failure })
        .boxed()
}

fn op(depth: u32) -> BoxedStrategy<pb::RequestOp> {
    let flat = prop_oneof![
        3 => put().prop_map(Op::RequestPut),
        1 => delete().prop_map(Op::RequestDeleteRange),
        2 => range().prop_map(Op::RequestRange),
    ];
    let request = match depth {
        0 => flat.boxed(),
        _ => prop_oneof![5 => flat, 1 => txn(depth - 1).prop_map(Op::RequestTxn)].boxed(),
    };
    request.prop_map(|request| pb::RequestOp { request: Some(request) }).boxed()
}

fn compaction() -> impl Strategy<Value = pb::CompactionRequest> {
    let revision = prop_oneof![8 => -12_i64..=-1, 1 => Just(0_i64), 1 => Just(AHEAD + 1)];
    (revision, any::<bool>()).prop_map(|(revision, physical)| pb::CompactionRequest { revision, physical })
}

fn lease_call() -> impl Strategy<Value = Call> {
    let id = || select(vec![7_i64, 7, 8, 99]);
    prop_oneof![
        4 => (id(), select(vec![1_000_i64, 2_000, 9_000_000_001]))
            .prop_map(|(id, ttl)| Call::Grant(pb::LeaseGrantRequest { id, ttl })),
        2 => id().prop_map(|id| Call::Revoke(pb::LeaseRevokeRequest { id })),
        1 => id().prop_map(Call::KeepAlive),
        1 => (id(), any::<bool>()).prop_map(|(id, keys)| Call::TimeToLive(pb::LeaseTimeToLiveRequest { id, keys })),
        1 => Just(Call::Leases),
    ]
}

fn watch() -> impl Strategy<Value = pb::WatchCreateRequest> {
    let start = prop_oneof![3 => Just(0_i64), 5 => -12_i64..=-1, 1 => Just(AHEAD + 3), 1 => Just(1_i64)];
    let filters = select(vec![vec![], vec![], vec![0], vec![1]]);
    (key(), range_end(), start, filters, any::<bool>(), any::<bool>()).prop_map(
        |(key, range_end, start_revision, filters, prev_kv, fragment)| pb::WatchCreateRequest {
            key,
            range_end,
            start_revision,
            filters,
            prev_kv,
            fragment,
            ..Default::default()
        },
    )
}
