//! Named places in the product's code where the simulation may step in, and rare sights that it counts.
//!
//! Outside of the simulation nothing is installed and every call returns at once; in builds without debug
//! assertions (release) the calls are empty. A new point is a line in [`Point`] and a call where it lies:
//!
//! - `fault::pause(Point::X).await`: the task may wait here, so that others overtake it;
//! - `fault::rare(Point::X)`: true now and then: take the rare branch (a batch of one, a refused try);
//! - `fault::overtaken(task)`: the task, which others that are ready may overtake each time it could go on
//!   ([`crate::Env::spawn`] does it for every task);
//! - `fault::sight(Sight::X)`: something happened that a batch of seeds must have seen at least once.

use std::{cell::RefCell, future::Future, rc::Rc, time::Duration};

macro_rules! names {
    ($(#[$about:meta])* $kind:ident { $($name:ident => $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $kind { $(#[doc = $text] $name,)* }

        impl $kind {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

names! {
    /// A place in the product's code.
    Point {
        WalBatch => "wal.batch",
        WalWritten => "wal.written",
        WalRemove => "wal.remove",
        LogAppend => "log.append",
        LogVote => "log.vote",
        LogTruncate => "log.truncate",
        LogPurge => "log.purge",
        LogRead => "log.read",
        ApplyBatch => "apply.batch",
        ApplyOne => "apply.one",
        ApplyAnswer => "apply.answer",
        SnapshotChunk => "snapshot.chunk",
        SnapshotInstall => "snapshot.install",
        SnapshotInstalled => "snapshot.installed",
        SnapshotReceive => "snapshot.receive",
        ProposerBatch => "proposer.batch",
        ProposerOne => "proposer.one",
        ProposerForward => "proposer.forward",
        ProposerAnswer => "proposer.answer",
        ReadRound => "read.round",
        ReadConfirmed => "read.confirmed",
        PeerAppend => "peer.append",
        PeerVote => "peer.vote",
        LeaseRenew => "lease.renew",
        LeaseList => "lease.list",
        LeaseExpire => "lease.expire",
        Flush => "flush",
        Purge => "purge",
        CompactStep => "compact.step",
        CompactSmall => "compact.small",
        WatchCreate => "watch.create",
        WatchBatch => "watch.batch",
        WatchProgress => "watch.progress",
        WatchCatchUp => "watch.catch_up",
        WatchSlow => "watch.slow",
        WatchWindow => "watch.window",
        TxnChecked => "txn.checked",
        RangeRead => "range.read",
        ClientAttempt => "client.attempt",
        ClientWatch => "client.watch",
        StoragePage => "storage.page",
        CacheFeed => "cache.feed",
        CacheRestart => "cache.restart",
        CacheFresh => "cache.fresh",
        RegistryUpdate => "registry.update",
        RegistryDelete => "registry.delete",
        InformerList => "informer.list",
        InformerEvent => "informer.event",
        InformerResume => "informer.resume",
        LeaderRenew => "leader.renew",
        LeaderAcquire => "leader.acquire",
        QueueTake => "queue.take",
        Reconcile => "reconcile",
        ReplicaSetManage => "replicaset.manage",
        DeploymentRollout => "deployment.rollout",
        GarbageDelete => "garbage.delete",
        NamespaceDelete => "namespace.delete",
        NodeMonitor => "node.monitor",
        TaintEvict => "taint.evict",
        SchedulerPick => "scheduler.pick",
        SchedulerBind => "scheduler.bind",
        EndpointsWrite => "endpoints.write",
        AgentSync => "agent.sync",
        AgentStatus => "agent.status",
        AgentLease => "agent.lease",
    }
}

names! {
    /// Something that seldom happens and that a batch of seeds must have seen.
    Sight {
        SnapshotSent => "a snapshot was installed",
        LeaderChangedInFlight => "a proposal lost its leader in flight",
        ProposalRetried => "a proposal was refused and tried again",
        WatcherSlow => "a watcher was too slow for the hub and caught up from the store",
        WatcherCompacted => "a watcher ended because its revision was compacted",
        CompactionBesideWatcher => "a compaction step ran while a watcher was catching up",
        LogTruncated => "entries that were not committed were cut from a log",
        LogPurged => "a log was purged",
        SegmentRemoved => "a log segment was removed",
        LeaseExpired => "a lease expired",
        LeaseListed => "a new leader listed the leases",
        CacheRestarted => "a watch cache began anew",
        InformerRelisted => "an informer listed again",
        LeaderDeposed => "a leader elector lost its lease",
        ConflictRetried => "an update met a conflict and was tried again",
        PodEvicted => "a pod was evicted from a node that was away",
    }
}

/// What decides at the points; the simulation's.
pub trait FaultPoints {
    /// How long the task waits at this point; mostly zero.
    fn pause(&self, point: Point) -> Duration;
    /// Whether the rare branch is taken.
    fn rare(&self, point: Point) -> bool;
    /// Whether a task that could go on lets all others that are ready go first.
    fn overtake(&self) -> bool {
        false
    }
    fn sight(&self, sight: Sight);
}

thread_local! {
    static POINTS: RefCell<Option<Rc<dyn FaultPoints>>> = const { RefCell::new(None) };
}

/// From now on `points` decides on this thread, until the guard is dropped.
pub fn install(points: Rc<dyn FaultPoints>) -> Installed {
    POINTS.with(|p| p.replace(Some(points)));
    Installed(())
}

/// See [`install`].
pub struct Installed(());

impl Drop for Installed {
    fn drop(&mut self) {
        POINTS.with(|p| p.replace(None));
    }
}

#[cfg(debug_assertions)]
fn ask<T>(question: impl FnOnce(&dyn FaultPoints) -> T) -> Option<T> {
    // A thread that is ending has no thread-local values any more.
    let points = POINTS.try_with(|p| p.borrow().clone()).ok().flatten()?;
    Some(question(&*points))
}

#[cfg(not(debug_assertions))]
#[inline(always)]
fn ask<T>(_: impl FnOnce(&dyn FaultPoints) -> T) -> Option<T> {
    None
}

/// The task may wait here.
#[inline]
pub async fn pause(point: Point) {
    if let Some(wait) = ask(|points| points.pause(point)) {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// True if the rare branch is to be taken here; never outside of the simulation.
#[inline]
pub fn rare(point: Point) -> bool {
    ask(|points| points.rare(point)).unwrap_or(false)
}

/// The task, whose place among those that are ready the simulation may change each time.
#[cfg(debug_assertions)]
pub fn overtaken<F: Future>(task: F) -> impl Future<Output = F::Output> {
    let mut task = Box::pin(task);
    std::future::poll_fn(move |context| {
        if ask(|points| points.overtake()).unwrap_or(false) {
            context.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        task.as_mut().poll(context)
    })
}

/// The task, as it is.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn overtaken<F: Future>(task: F) -> F {
    task
}

/// Tells the simulation that this happened.
#[inline]
pub fn sight(sight: Sight) {
    ask(|points| points.sight(sight));
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Always(Cell<u32>);

    impl FaultPoints for Always {
        fn pause(&self, _: Point) -> Duration {
            Duration::from_secs(3)
        }

        fn rare(&self, _: Point) -> bool {
            true
        }

        fn sight(&self, _: Sight) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn points_do_nothing_until_somebody_decides() {
        let start = tokio::time::Instant::now();
        pause(Point::Flush).await;
        assert!(!rare(Point::Flush) && start.elapsed().is_zero());
        let always = Rc::new(Always(Cell::new(0)));
        let installed = install(always.clone());
        pause(Point::Flush).await;
        sight(Sight::LogPurged);
        assert!(rare(Point::Flush));
        assert_eq!((start.elapsed().as_secs(), always.0.get()), (3, 1));
        drop(installed);
        assert!(!rare(Point::Flush));
    }

    struct EverySecond(Cell<u32>);

    impl FaultPoints for EverySecond {
        fn pause(&self, _: Point) -> Duration {
            Duration::ZERO
        }

        fn rare(&self, _: Point) -> bool {
            false
        }

        fn overtake(&self) -> bool {
            self.0.set(self.0.get() + 1);
            self.0.get() % 2 == 1
        }

        fn sight(&self, _: Sight) {}
    }

    #[tokio::test]
    async fn tasks_overtake_each_other_and_all_end() {
        let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let _installed = install(Rc::new(EverySecond(Cell::new(0))));
        let spawn = |id: u32| {
            let order = order.clone();
            tokio::spawn(overtaken(async move { order.lock().unwrap().push(id) }))
        };
        let tasks: Vec<_> = (0..3).map(spawn).collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [1, 0, 2], "the first and the last were put off");
    }

    #[test]
    fn every_name_is_there_once() {
        let names: std::collections::BTreeSet<&str> = Point::ALL.iter().map(|p| p.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        assert!(names.len() >= 50);
    }
}
