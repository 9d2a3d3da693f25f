//! Known bugs of other systems, put back one at a time so that the simulation can prove that it finds them.
//!
//! Only the simulation turns one on, on its own thread; in builds without debug assertions (release) the
//! question is always answered with no, and the branch is not in the binary.

use std::cell::Cell;

/// A bug as it was, or its effect at the nearest seam of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// etcd 13766: the applied index becomes durable apart from the data.
    AppliedIndexApart,
    /// etcd 14370: an entry counts as durable before it is synced.
    FlushedBeforeSync,
    /// etcd 15220: a progress notification overtakes the events before it.
    ProgressBeforeEvents,
    /// etcd 15271: after a snapshot is installed, a watch tells what it has told before.
    WatchGoesBack,
    /// etcd 17529: a slow watcher that compaction has passed goes on without what it missed.
    SlowWatcherSkips,
    /// etcd 17780: a crash beside compaction lowers the revision.
    RevisionFromRows,
    /// etcd 12528 and 15247: a deposed leader's expiry revokes a lease that was renewed elsewhere.
    DeposedLeaderRevokes,
    /// openraft 1802: an entry is committed without a quorum. Its effect: a follower that cannot be reached
    /// counts as one that has the entries.
    CommitWithoutQuorum,
    /// raft-dev 2015 (single-server membership change): two leaders in one term. Its effect, quorums that do
    /// not overlap: a vote that cannot be asked for counts as granted.
    VoteWithoutQuorum,
    /// tikv 6340: a new leader serves reads before it has committed anything in its term.
    ReadBeforeOwnCommit,
    /// kubernetes 59848: a client that was restarted lists at resourceVersion 0, from a cache behind what it has seen.
    ListRewinds,
    /// kubernetes 129795: expectations are given up before the cache shows the writes.
    ExpectationsForgotten,
    /// kubernetes 137308: the scheduler decides on an old cache after a failover. Its effect: pods that were bound
    /// before it led are unknown to it until they change.
    SchedulerColdCache,
    /// kubernetes 88097 and 65200: the garbage collector takes an owner that its cache does not show for gone.
    CollectorColdCache,
    /// kubernetes 107457: a restored store hands out revisions that clients have seen before.
    RestoreRewinds,
}

impl Bug {
    pub const ALL: &[Self] = &[
        Self::AppliedIndexApart,
        Self::FlushedBeforeSync,
        Self::ProgressBeforeEvents,
        Self::WatchGoesBack,
        Self::SlowWatcherSkips,
        Self::RevisionFromRows,
        Self::DeposedLeaderRevokes,
        Self::CommitWithoutQuorum,
        Self::VoteWithoutQuorum,
        Self::ReadBeforeOwnCommit,
        Self::ListRewinds,
        Self::ExpectationsForgotten,
        Self::SchedulerColdCache,
        Self::CollectorColdCache,
        Self::RestoreRewinds,
    ];

    /// The tracker and number under which it is known.
    pub fn id(self) -> &'static str {
        match self {
            Self::AppliedIndexApart => "etcd-13766",
            Self::FlushedBeforeSync => "etcd-14370",
            Self::ProgressBeforeEvents => "etcd-15220",
            Self::WatchGoesBack => "etcd-15271",
            Self::SlowWatcherSkips => "etcd-17529",
            Self::RevisionFromRows => "etcd-17780",
            Self::DeposedLeaderRevokes => "etcd-12528",
            Self::CommitWithoutQuorum => "openraft-1802",
            Self::VoteWithoutQuorum => "raft-dev-2015",
            Self::ReadBeforeOwnCommit => "tikv-6340",
            Self::ListRewinds => "k8s-59848",
            Self::ExpectationsForgotten => "k8s-129795",
            Self::SchedulerColdCache => "k8s-137308",
            Self::CollectorColdCache => "k8s-88097",
            Self::RestoreRewinds => "k8s-107457",
        }
    }

    pub fn by_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.id() == id)
    }
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// From now on this thread runs with `bug`, until the guard is dropped.
pub fn plant(bug: Bug) -> Planted {
    PLANTED.set(Some(bug));
    Planted(())
}

/// See [`plant`].
pub struct Planted(());

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

/// Whether `bug` is to be had here; never outside of the simulation.
#[inline(always)]
pub fn planted(bug: Bug) -> bool {
    // A thread that is ending has no thread-local values any more.
    cfg!(debug_assertions) && PLANTED.try_with(Cell::get) == Ok(Some(bug))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_there_only_while_it_is_planted_and_alone() {
        assert!(!planted(Bug::ListRewinds));
        let guard = plant(Bug::ListRewinds);
        assert!(planted(Bug::ListRewinds) && !planted(Bug::WatchGoesBack));
        drop(guard);
        assert!(!planted(Bug::ListRewinds));
    }

    #[test]
    fn ids_name_one_bug_each() {
        assert!(Bug::ALL.iter().all(|bug| Bug::by_id(bug.id()) == Some(*bug)));
        assert_eq!(Bug::by_id("etcd-1"), None);
    }
}
