//! Which feature level commands need. What a level brings is not used before all members have said that they can
//! do it, so that whatever is in the log can be read everywhere; from then on an older release refuses to start.
//!
//! | level | brings |
//! |---|---|
//! | 1 | the first release |
//! | 2 | members that say what they can do, learners on their way to a vote; users, roles and permissions |

use keelstone_etcd_api::ApiError;
use keelstone_mvcc::Op;

use crate::{constants::LEVEL_TIME_MAX, core::Core, rules::MemberChange, RaftError};

const LEVEL_MEMBERS: u32 = 2;
const LEVEL_AUTH: u32 = 2;

/// The level from which on every member knows the command.
pub(crate) fn of_command(op: &Op) -> u32 {
    match op {
        Op::Auth(_) => LEVEL_AUTH,
        _ => 1,
    }
}

/// The same for a change of the membership. That a member says what it can do is understood by all, and so is that one
/// goes: or one that is lost for good in the middle of an upgrade could never be replaced.
pub(crate) fn of_change(change: &MemberChange) -> u32 {
    match change {
        MemberChange::Publish { .. } | MemberChange::Remove { .. } => 1,
        _ => LEVEL_MEMBERS,
    }
}

impl Core {
    /// Waits a moment for the cluster to reach `level`: members of a new cluster say what they can do only once they
    /// run.
    ///
    /// # Errors
    /// `not capable` if it stays below.
    pub(crate) async fn require_level(&self, level: u32) -> Result<(), RaftError> {
        let mut status = self.status.subscribe();
        let reached = status.wait_for(|status| status.feature_level >= level || status.failed.is_some());
        let reached = tokio::time::timeout(LEVEL_TIME_MAX, reached).await;
        match reached.map(|status| status.is_ok_and(|status| status.failed.is_none())) {
            Ok(true) => Ok(()),
            Ok(false) => Err(RaftError::Stopped),
            Err(_) => Err(ApiError::NotCapable.into()),
        }
    }
}
