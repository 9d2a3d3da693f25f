//! What a command asks of its caller, checked against the state that it is applied to.

use bytes::Bytes;
use keelstone_etcd_api::{
    pb::{self, request_op::Request},
    ApiError,
};

use super::{Access, AuthState, Caller};
use crate::{apply::ApplyError, Op};

/// The keys attached to a lease.
pub type Attached<'a> = &'a dyn Fn(i64) -> Result<Vec<Bytes>, ApplyError>;

/// # Errors
/// `permission denied`, `user name is empty` (the caller did not say who it is) or `revision of auth store is
/// old`. The command has then changed nothing.
pub fn check_command(
    auth: &AuthState,
    attached: Attached<'_>,
    caller: Option<&Caller>,
    op: &Op,
) -> Result<(), ApplyError> {
    if caller.is_none() || !auth.enabled {
        return Ok(());
    }
    let check = Check { auth, attached, caller };
    match op {
        Op::Put(request) => check.put(request),
        Op::DeleteRange(request) => check.delete_range(request),
        Op::Txn(request) => check.txn(request),
        Op::LeaseRevoke(request) => check.lease(request.id),
        Op::LeaseGrant(_) | Op::Compact(_) => Ok(auth.check_known(caller)?),
        Op::Auth(_) | Op::Alarm(_) => Ok(auth.check_root(caller)?),
        // Only the store itself proposes these.
        Op::LeaseExpire(_) | Op::Moment(_) => Err(ApiError::PermissionDenied.into()),
    }
}

struct Check<'a> {
    auth: &'a AuthState,
    attached: Attached<'a>,
    caller: Option<&'a Caller>,
}

impl Check<'_> {
    fn may(&self, access: Access, key: &Bytes, range_end: &Bytes) -> Result<(), ApplyError> {
        Ok(self.auth.check(self.caller, access, key, range_end)?)
    }

    fn put(&self, request: &pb::PutRequest) -> Result<(), ApplyError> {
        self.may(Access::Write, &request.key, &Bytes::new())?;
        // Who attaches a key to a lease can let the lease die, and all of its keys with it.
        self.lease(request.lease)?;
        if request.prev_kv {
            self.may(Access::Read, &request.key, &Bytes::new())?;
        }
        Ok(())
    }

    /// Whether the caller may end a lease: write all keys that are attached to it.
    fn lease(&self, id: i64) -> Result<(), ApplyError> {
        if id == 0 {
            return Ok(());
        }
        (self.attached)(id)?.iter().try_for_each(|key| self.may(Access::Write, key, &Bytes::new()))
    }

    fn delete_range(&self, request: &pb::DeleteRangeRequest) -> Result<(), ApplyError> {
        self.may(Access::Write, &request.key, &request.range_end)?;
        if request.prev_kv {
            self.may(Access::Read, &request.key, &request.range_end)?;
        }
        Ok(())
    }

    /// All branches, taken or not, and those of nested txns: which one is taken would tell what a key holds.
    fn txn(&self, request: &pb::TxnRequest) -> Result<(), ApplyError> {
        for compare in &request.compare {
            self.may(Access::Read, &compare.key, &compare.range_end)?;
        }
        request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
            Some(Request::RequestRange(request)) => self.may(Access::Read, &request.key, &request.range_end),
            Some(Request::RequestPut(request)) => self.put(request),
            Some(Request::RequestDeleteRange(request)) => self.delete_range(request),
            Some(Request::RequestTxn(request)) => self.txn(request),
            None => Ok(()),
        })
    }
}
