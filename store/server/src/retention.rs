//! History by time: the leader notes now and then which revision is the newest, and compactions that would take
//! what is younger than the retention are held back to what is older.

use std::{sync::Arc, time::Duration};

use keelstone_etcd_api::{pb, ApiError};
use keelstone_mvcc::{Moment, Op};

use crate::{
    constants::{MOMENTS_PER_RETENTION, MOMENT_INTERVAL_MAX, MOMENT_INTERVAL_MIN},
    member::Member,
};

/// Notes times while this member leads, until it stops.
pub(crate) async fn note_moments(member: Arc<Member>, retention: Duration) {
    let interval = (retention / MOMENTS_PER_RETENTION).clamp(MOMENT_INTERVAL_MIN, MOMENT_INTERVAL_MAX);
    loop {
        tokio::select! {
            biased;
            () = member.stopping.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        if !member.raft.status().is_leader() {
            continue;
        }
        match member.mvcc.last_moment() {
            // Nothing was written since: the last one says it all.
            Ok(Some((_, revision))) if revision == member.mvcc.revision() => continue,
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the noted times cannot be read"),
        }
        let moment = Moment { unix_ms: unix_ms(&member) };
        if let Err(error) = member.propose(Op::Moment(moment)).await {
            tracing::info!(%error, "the time of a revision was not noted");
        }
    }
}

fn unix_ms(member: &Member) -> i64 {
    let since = member.env.wall_now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What of a compaction may be done now; `None` if all that it would take has to be kept.
pub(crate) fn allowed(
    member: &Member,
    request: pb::CompactionRequest,
) -> Result<Option<pb::CompactionRequest>, ApiError> {
    let Some(retention) = member.limits.history_retention else { return Ok(Some(request)) };
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let kept_from = member.mvcc.revision_at(unix_ms(member).saturating_sub(retention_ms)).map_err(|error| {
        tracing::error!(%error, "the noted times cannot be read");
        ApiError::Corrupt
    })?;
    let (compacted, current) = (member.mvcc.compacted_revision(), member.mvcc.revision());
    Ok(cut(request, kept_from.unwrap_or(0), compacted, current))
}

/// Holds `request` back to `kept_from`. One that is refused anyway goes its way to be refused.
fn cut(request: pb::CompactionRequest, kept_from: i64, compacted: i64, current: i64) -> Option<pb::CompactionRequest> {
    let wanted = request.revision;
    if wanted <= compacted || wanted > current || wanted <= kept_from {
        return Some(request);
    }
    (kept_from > compacted && kept_from > 0).then_some(pb::CompactionRequest { revision: kept_from, ..request })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compactions_take_only_what_is_older() {
        let cut = |wanted, kept_from, compacted| {
            let request = pb::CompactionRequest { revision: wanted, physical: true };
            super::cut(request, kept_from, compacted, 100).map(|request| request.revision)
        };
        assert_eq!(cut(50, 80, -1), Some(50));
        assert_eq!(cut(80, 80, -1), Some(80));
        assert_eq!(cut(90, 80, -1), Some(80));
        assert_eq!(cut(90, 80, 80), None);
        assert_eq!(cut(90, 0, -1), None);
        // Refused by the state machine, as without a retention.
        assert_eq!(cut(101, 80, -1), Some(101));
        assert_eq!(cut(70, 80, 75), Some(70));
    }
}
