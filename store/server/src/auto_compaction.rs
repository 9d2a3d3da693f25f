//! Compaction by age or by number of revisions, as etcd's `--auto-compaction-mode`.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use keelstone_etcd_api::{pb, ApiError};
use keelstone_raft::RaftError;
use tokio::time::Instant;

use crate::{
    auth::Credentials,
    constants::{AUTO_COMPACTION_INTERVAL_MAX, AUTO_COMPACTION_INTERVAL_MIN, AUTO_COMPACTION_SAMPLES},
    member::Member,
};

/// What of the history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// What is younger than this, and up to a tenth of it more.
    Periodic(Duration),
    /// So many revisions before the current one.
    Revision(i64),
}

impl AutoCompaction {
    fn interval(self) -> Duration {
        match self {
            Self::Periodic(kept) => {
                (kept / AUTO_COMPACTION_SAMPLES).clamp(AUTO_COMPACTION_INTERVAL_MIN, AUTO_COMPACTION_INTERVAL_MAX)
            }
            Self::Revision(_) => AUTO_COMPACTION_INTERVAL_MIN,
        }
    }
}

/// Which revision was the current one when.
#[derive(Debug, Default)]
struct Samples(VecDeque<(Instant, i64)>);

impl Samples {
    /// Notes the current revision; returns the youngest one that is at least `kept` old, and forgets what is older
    /// than that.
    fn add(&mut self, now: Instant, revision: i64, kept: Duration) -> Option<i64> {
        self.0.push_back((now, revision));
        let old = self.0.iter().take_while(|(at, _)| now.duration_since(*at) >= kept).count();
        self.0.drain(..old.saturating_sub(1));
        (old > 0).then(|| self.0[0].1)
    }
}

/// Compacts until the member stops. Every member takes samples, so that a new leader knows the past; only the leader
/// compacts.
pub(crate) async fn run(member: Arc<Member>, mode: AutoCompaction) {
    let mut samples = Samples::default();
    loop {
        tokio::select! {
            biased;
            () = member.stopping.cancelled() => return,
            () = tokio::time::sleep(mode.interval()) => {}
        }
        let revision = member.mvcc.revision();
        let target = match mode {
            AutoCompaction::Periodic(kept) => samples.add(member.env.now(), revision, kept),
            AutoCompaction::Revision(kept) => Some(revision.saturating_sub(kept)),
        };
        let target = target.filter(|target| *target > member.mvcc.compacted_revision().max(0));
        if let (Some(target), true) = (target, member.status().is_leader()) {
            compact(&member, target).await;
        }
    }
}

async fn compact(member: &Member, revision: i64) {
    match member.compact(pb::CompactionRequest { revision, physical: false }, &Credentials::INTERNAL).await {
        Ok(_) => tracing::info!(revision, "auto compaction"),
        // Somebody else has compacted further.
        Err(RaftError::Api(ApiError::Compacted)) => {}
        Err(error) => tracing::info!(revision, %error, "auto compaction failed; it will be tried again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_revision_is_compacted_when_it_is_old_enough() {
        let (start, s) = (Instant::now(), Duration::from_secs);
        let mut samples = Samples::default();
        assert_eq!(samples.add(start, 5, s(10)), None);
        assert_eq!(samples.add(start + s(9), 6, s(10)), None);
        assert_eq!(samples.add(start + s(10), 7, s(10)), Some(5));
        // After a pause, the youngest one that is old enough.
        assert_eq!(samples.add(start + s(25), 8, s(10)), Some(7));
        assert_eq!(samples.0.len(), 2);
        assert_eq!(samples.add(start + s(26), 9, s(10)), Some(7));
    }

    #[test]
    fn intervals_are_bounded() {
        assert_eq!(AutoCompaction::Periodic(Duration::from_millis(1)).interval(), AUTO_COMPACTION_INTERVAL_MIN);
        assert_eq!(AutoCompaction::Periodic(Duration::from_secs(1 << 40)).interval(), AUTO_COMPACTION_INTERVAL_MAX);
    }
}
