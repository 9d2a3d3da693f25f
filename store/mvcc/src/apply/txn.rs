//! Txns: all compares, nested ones too, are decided on the state before; then everything that could fail is
//! checked; then the chosen branches run and make one revision.

use std::cmp::Ordering;

use keelstone_etcd_api::{
    pb::{
        self,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op,
    },
    ApiError,
};

use super::{command, working::Working, ApplyError};
use crate::{
    index::Version,
    read::{self, header},
    RangeBounds,
};

pub fn apply(working: &mut Working, request: pb::TxnRequest) -> Result<pb::TxnResponse, ApplyError> {
    let branch = choose(working, request)?;
    check(working, &branch)?;
    let mut response = run(working, branch)?;
    working.commit();
    response.header = Some(header(working.view.revision));
    Ok(response)
}

/// The branch that a txn takes.
struct Branch {
    succeeded: bool,
    ops: Vec<BranchOp>,
}

enum BranchOp {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(Branch),
}

fn choose(working: &Working, request: pb::TxnRequest) -> Result<Branch, ApplyError> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(working, compare)? {
            succeeded = false;
            break;
        }
    }
    let ops = if succeeded { request.success } else { request.failure };
    let ops = ops
        .into_iter()
        .map(|op| match op.request {
            Some(Request::RequestRange(request)) => Ok(BranchOp::Range(request)),
            Some(Request::RequestPut(request)) => Ok(BranchOp::Put(request)),
            Some(Request::RequestDeleteRange(request)) => Ok(BranchOp::DeleteRange(request)),
            Some(Request::RequestTxn(request)) => choose(working, request).map(BranchOp::Txn),
            None => Err(ApiError::KeyNotFound.into()),
        })
        .collect::<Result<_, ApplyError>>()?;
    Ok(Branch { succeeded, ops })
}

fn check(working: &Working, branch: &Branch) -> Result<(), ApplyError> {
    // As in etcd, puts are checked before ranges.
    check_puts(working, branch)?;
    Ok(check_ranges(working, branch)?)
}

fn check_puts(working: &Working, branch: &Branch) -> Result<(), ApplyError> {
    branch.ops.iter().try_for_each(|op| match op {
        BranchOp::Put(request) => command::check_put(working, request),
        BranchOp::Txn(branch) => check_puts(working, branch),
        BranchOp::Range(_) | BranchOp::DeleteRange(_) => Ok(()),
    })
}

fn check_ranges(working: &Working, branch: &Branch) -> Result<(), ApiError> {
    branch.ops.iter().try_for_each(|op| match op {
        BranchOp::Range(request) => {
            read::check_revision(working.view.compacted, working.view.revision, request.revision)
        }
        BranchOp::Txn(branch) => check_ranges(working, branch),
        BranchOp::Put(_) | BranchOp::DeleteRange(_) => Ok(()),
    })
}

fn run(working: &mut Working, branch: Branch) -> Result<pb::TxnResponse, ApplyError> {
    let mut responses = Vec::with_capacity(branch.ops.len());
    for op in branch.ops {
        let response = match op {
            BranchOp::Range(request) => response_op::Response::ResponseRange(working.range(&request)?),
            BranchOp::Put(request) => response_op::Response::ResponsePut(command::put(working, request)?),
            BranchOp::DeleteRange(request) => {
                response_op::Response::ResponseDeleteRange(command::delete_range(working, &request)?)
            }
            BranchOp::Txn(branch) => response_op::Response::ResponseTxn(run(working, branch)?),
        };
        responses.push(pb::ResponseOp { response: Some(response) });
    }
    // Only the outermost header has a revision, as in etcd.
    Ok(pb::TxnResponse { header: Some(header(0)), succeeded: branch.succeeded, responses })
}

/// Whether a compare holds for every key of its range. A range without keys compares as a key that was never
/// written, but no value equals, precedes or follows a missing one.
fn holds(working: &Working, compare: &pb::Compare) -> Result<bool, ApplyError> {
    let targets_value = compare.target == CompareTarget::Value as i32;
    let mut any = false;
    for (key, version) in working.live(&RangeBounds::new(&compare.key, &compare.range_end))? {
        any = true;
        let order = if targets_value {
            compare_value(working, compare, &key, version)?
        } else {
            compare_number(compare, version)
        };
        if !matches(compare, order) {
            return Ok(false);
        }
    }
    Ok(any || (!targets_value && matches(compare, compare_number(compare, Version::default()))))
}

fn compare_value(
    working: &Working,
    compare: &pb::Compare,
    key: &[u8],
    version: Version,
) -> Result<Ordering, ApplyError> {
    let kv = working.kv(key, version)?;
    Ok(match &compare.target_union {
        Some(TargetUnion::Value(value)) => kv.value.cmp(value),
        _ => kv.value[..].cmp(&[]),
    })
}

fn compare_number(compare: &pb::Compare, version: Version) -> Ordering {
    let wanted = match (CompareTarget::try_from(compare.target), &compare.target_union) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(wanted)))
        | (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(wanted)))
        | (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(wanted)))
        | (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(wanted))) => *wanted,
        _ => 0,
    };
    let found = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => version.version,
        Ok(CompareTarget::Create) => version.create,
        Ok(CompareTarget::Mod) => version.at.main,
        Ok(CompareTarget::Lease) => version.lease,
        // An unknown target compares as equal.
        Ok(CompareTarget::Value) | Err(_) => wanted,
    };
    found.cmp(&wanted)
}

fn matches(compare: &pb::Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}
