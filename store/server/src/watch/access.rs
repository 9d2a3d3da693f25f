use std::sync::Arc;

use bytes::Bytes;
use keelstone_etcd_api::ApiError;
use keelstone_mvcc::{AuthStatus, Caller};
use tokio::sync::watch;
use tonic::Status;

use crate::member::Member;

/// Whether the client of a watch may still read what it watches.
pub(crate) struct WatchAccess {
    member: Arc<Member>,
    caller: Option<Caller>,
    key: Bytes,
    range_end: Bytes,
    changes: watch::Receiver<AuthStatus>,
}

impl WatchAccess {
    /// # Errors
    /// If the caller may not read the range now.
    pub fn new(member: &Arc<Member>, caller: Option<Caller>, key: Bytes, range_end: Bytes) -> Result<Self, ApiError> {
        // Before the first check, so that no change falls between the two.
        let changes = member.mvcc.auth_changes();
        member.mvcc.auth().check_read(caller.as_ref(), &key, &range_end)?;
        Ok(Self { member: Arc::clone(member), caller, key, range_end, changes })
    }

    /// Looks again if users or roles have changed since; an atomic load if not.
    ///
    /// # Errors
    /// If the user may no longer read the range, or is no more.
    pub fn check(&mut self) -> Result<(), ApiError> {
        if !self.changes.has_changed().unwrap_or(false) {
            return Ok(());
        }
        self.changes.mark_unchanged();
        let users = self.member.mvcc.auth();
        // It was authenticated when the watch began; what counts is what its user may do now.
        let known = self.caller.as_ref().filter(|caller| caller.auth_revision > 0);
        let now = known.map(|caller| users.caller(caller.user.clone()));
        users.check_read(now.as_ref().or(self.caller.as_ref()), &self.key, &self.range_end)
    }
}

/// A refusal as a watch response gives it: with its code, as Go's gRPC prints an error.
pub(super) fn reason(error: ApiError) -> String {
    let status = Status::from(error);
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}
