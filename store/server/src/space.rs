//! The NOSPACE alarm of this member: raised at the quota, cleared by itself when space is back.

use std::sync::Arc;

use keelstone_etcd_api::pb::{self, alarm_request::AlarmAction, AlarmType};
use keelstone_mvcc::Op;

use crate::{
    constants::{NOSPACE_CLEAR_PERCENT, SPACE_POLL_INTERVAL},
    member::Member,
};

/// Looks at the space in use now and then, until the member stops.
pub(crate) async fn watch(member: Arc<Member>) {
    loop {
        tokio::select! {
            biased;
            () = member.stopping.cancelled() => return,
            () = tokio::time::sleep(SPACE_POLL_INTERVAL) => {}
        }
        let mvcc = Arc::clone(&member.mvcc);
        let in_use = match member.env.offload(move || mvcc.refresh_in_use_bytes()).await {
            Ok(in_use) => in_use,
            Err(error) => {
                tracing::error!(%error, "the space in use cannot be read");
                continue;
            }
        };
        let Some(action) = action(in_use, member.limits.quota_bytes, has_alarm(&member)) else { continue };
        let alarm = AlarmType::Nospace as i32;
        let request = pb::AlarmRequest { action: action as i32, member_id: member.member_id, alarm };
        match member.propose(Op::Alarm(request)).await {
            Ok(_) => tracing::warn!(in_use, quota = member.limits.quota_bytes, ?action, "NOSPACE alarm changed"),
            Err(error) => tracing::info!(%error, "the NOSPACE alarm could not be changed; it will be tried again"),
        }
    }
}

fn has_alarm(member: &Member) -> bool {
    let own = |alarm: &pb::AlarmMember| alarm.member_id == member.member_id && alarm.alarm == AlarmType::Nospace as i32;
    member.mvcc.alarms().iter().any(own)
}

/// What has to be done about the alarm. It is cleared a little below the quota, so that it does not flap.
fn action(in_use: u64, quota: u64, on: bool) -> Option<AlarmAction> {
    if quota == 0 {
        return on.then_some(AlarmAction::Deactivate);
    }
    let clear_below = u128::from(quota) * NOSPACE_CLEAR_PERCENT / 100;
    match on {
        false if in_use >= quota => Some(AlarmAction::Activate),
        true if u128::from(in_use) < clear_below => Some(AlarmAction::Deactivate),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_at_the_quota_and_cleared_below_it() {
        assert_eq!(action(999, 1000, false), None);
        assert_eq!(action(1000, 1000, false), Some(AlarmAction::Activate));
        assert_eq!(action(1000, 1000, true), None);
        assert_eq!(action(950, 1000, true), None);
        assert_eq!(action(949, 1000, true), Some(AlarmAction::Deactivate));
        assert_eq!(action(u64::MAX, 0, false), None);
        assert_eq!(action(0, 0, true), Some(AlarmAction::Deactivate));
    }
}
