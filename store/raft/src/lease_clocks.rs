//! When leases end. Only the leader counts, by its monotonic clock.
//!
//! A new leader gives every lease its full time to live from the moment it began to lead, without touching
//! any of them: only those that were granted or renewed in its term have a deadline of their own at once,
//! the others are listed in the background. So a lease never ends earlier than its time to live after the
//! last keep-alive that was acknowledged, whoever acknowledged it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use keelstone_env::Env;
use keelstone_mvcc::{LeaseEvent, LeaseInfo};
use tokio::time::Instant;

/// Longest time that is counted; the longest lease allowed is longer than any machine runs.
const TTL_S_COUNTED_MAX: u64 = 10 * 365 * 24 * 3600;

#[derive(Default)]
struct Clocks {
    /// The term in which this member leads, and since when.
    leading: Option<(u64, Instant)>,
    /// All leases must be listed (again).
    unlisted: bool,
    deadlines: BTreeMap<i64, Instant>,
    queue: BTreeSet<(Instant, i64)>,
    /// Their expiry is proposed: they cannot be renewed any more.
    expiring: BTreeSet<i64>,
}

impl Clocks {
    fn set(&mut self, id: i64, deadline: Instant) {
        if let Some(old) = self.deadlines.insert(id, deadline) {
            self.queue.remove(&(old, id));
        }
        self.queue.insert((deadline, id));
    }

    fn remove(&mut self, id: i64) {
        if let Some(old) = self.deadlines.remove(&id) {
            self.queue.remove(&(old, id));
        }
        self.expiring.remove(&id);
    }
}

pub(crate) struct LeaseClocks {
    env: Env,
    clocks: Mutex<Clocks>,
}

fn ttl(ttl_s: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl_s).unwrap_or(0).min(TTL_S_COUNTED_MAX))
}

impl LeaseClocks {
    pub(crate) fn new(env: Env) -> Self {
        Self { env, clocks: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Clocks> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called whenever the role may have changed. Takes no time, however many leases there are.
    pub(crate) fn lead(&self, term: Option<u64>) {
        let mut clocks = self.lock();
        if clocks.leading.map(|(term, _)| term) == term {
            return;
        }
        *clocks =
            Clocks { leading: term.map(|term| (term, self.env.now())), unlisted: term.is_some(), ..Clocks::default() };
    }

    /// Follows what was applied.
    pub(crate) fn observe(&self, event: LeaseEvent) {
        let mut clocks = self.lock();
        if clocks.leading.is_none() {
            return;
        }
        match event {
            LeaseEvent::Granted(lease) => clocks.set(lease.id, self.env.now() + ttl(lease.ttl_s)),
            LeaseEvent::Revoked { id } => clocks.remove(id),
            LeaseEvent::Reset => clocks.unlisted = true,
        }
    }

    /// True once after this member began to lead: all leases must then be passed to [`LeaseClocks::list`].
    pub(crate) fn wants_list(&self) -> bool {
        std::mem::take(&mut self.lock().unlisted)
    }

    /// Gives leases that have no deadline yet their full time from the moment this member began to lead.
    pub(crate) fn list(&self, leases: &[LeaseInfo]) {
        let mut clocks = self.lock();
        let Some((_, since)) = clocks.leading else { return };
        for lease in leases {
            if !clocks.deadlines.contains_key(&lease.id) && !clocks.expiring.contains(&lease.id) {
                clocks.set(lease.id, since + ttl(lease.ttl_s));
            }
        }
    }

    /// The term in which this member leads, and leases whose time is over, at most `max`. They cannot be
    /// renewed any more in this term.
    pub(crate) fn due(&self, max: usize) -> Option<(u64, Vec<i64>)> {
        let now = self.env.now();
        let mut clocks = self.lock();
        let (term, _) = clocks.leading?;
        let mut due = Vec::new();
        while due.len() < max {
            match clocks.queue.first() {
                Some((deadline, id)) if *deadline <= now => {
                    let id = *id;
                    clocks.remove(id);
                    clocks.expiring.insert(id);
                    due.push(id);
                }
                _ => break,
            }
        }
        Some((term, due))
    }

    /// The expiry of `id` was not carried out, or nobody knows: it is due again after `pause`. It still cannot be
    /// renewed: what was proposed may be in the log, and be carried out after the renewal was acknowledged.
    pub(crate) fn retry(&self, term: u64, id: i64, pause: Duration) {
        let deadline = self.env.now() + pause;
        let mut clocks = self.lock();
        if clocks.leading.map(|(term, _)| term) == Some(term) && clocks.expiring.contains(&id) {
            clocks.set(id, deadline);
        }
    }

    /// The expiry of `id` was carried out.
    pub(crate) fn settled(&self, id: i64) {
        self.lock().expiring.remove(&id);
    }

    /// When the next lease is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.lock().queue.first().map(|(deadline, _)| *deadline)
    }

    /// Sorts leases by the time at which they end, as etcd's LeaseLeases does; those whose end is not known here, so all
    /// of them unless this member leads, come last, by id.
    pub(crate) fn sort(&self, leases: &mut [LeaseInfo]) {
        let clocks = self.lock();
        leases.sort_by_key(|lease| {
            let end = clocks.deadlines.get(&lease.id);
            (end.is_none(), end.copied(), lease.id)
        });
    }

    /// Starts a lease's time anew. The caller has had its leadership confirmed. False if this member does
    /// not lead or the lease is being revoked.
    pub(crate) fn renew(&self, lease: LeaseInfo) -> bool {
        let deadline = self.env.now() + ttl(lease.ttl_s);
        let mut clocks = self.lock();
        if clocks.leading.is_none() || clocks.expiring.contains(&lease.id) {
            return false;
        }
        clocks.set(lease.id, deadline);
        true
    }

    /// How long the lease still lives; `None` if this member does not lead.
    pub(crate) fn remaining(&self, lease: LeaseInfo) -> Option<Duration> {
        let now = self.env.now();
        let clocks = self.lock();
        let (_, since) = clocks.leading?;
        if clocks.expiring.contains(&lease.id) {
            return Some(Duration::ZERO);
        }
        let deadline = clocks.deadlines.get(&lease.id).copied().unwrap_or(since + ttl(lease.ttl_s));
        Some(deadline.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: LeaseInfo = LeaseInfo { id: 1, ttl_s: 10 };

    fn due(clocks: &LeaseClocks) -> Vec<i64> {
        clocks.due(100).map_or(Vec::new(), |(_, due)| due)
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_leader_counts() {
        let clocks = LeaseClocks::new(Env::os());
        clocks.observe(LeaseEvent::Granted(LEASE));
        pass(100).await;
        assert_eq!(clocks.due(100), None);
        assert_eq!(clocks.remaining(LEASE), None);
        assert!(!clocks.renew(LEASE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_gives_every_lease_its_full_time() {
        let clocks = LeaseClocks::new(Env::os());
        clocks.lead(Some(3));
        assert!(clocks.wants_list());
        assert!(!clocks.wants_list());
        pass(4).await;
        // Listed late, counted from the beginning of the term.
        clocks.list(&[LEASE]);
        assert_eq!(clocks.remaining(LEASE), Some(Duration::from_secs(6)));
        pass(5).await;
        assert_eq!(due(&clocks), Vec::<i64>::new());
        pass(1).await;
        assert_eq!(clocks.due(100), Some((3, vec![1])));
        clocks.lead(None);
        clocks.lead(Some(5));
        clocks.list(&[LEASE]);
        assert_eq!(clocks.remaining(LEASE), Some(Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_touches_no_lease() {
        const LEASES: i64 = 100_000;
        let lease = |id| LeaseInfo { id, ttl_s: 10 };
        let clocks = LeaseClocks::new(Env::os());
        pass(1_000).await;
        clocks.lead(Some(7));
        pass(4).await;
        assert_eq!(clocks.lock().deadlines.len(), 0);
        // Each has its full time from then on, listed or not, and can be renewed.
        assert_eq!(clocks.remaining(lease(LEASES)), Some(Duration::from_secs(6)));
        assert!(clocks.renew(lease(1)));
        let all: Vec<LeaseInfo> = (1..=LEASES).map(lease).collect();
        clocks.list(&all);
        assert_eq!(clocks.remaining(lease(1)), Some(Duration::from_secs(10)), "listing shortens nothing");
        pass(6).await;
        let mut ended = 0;
        while let Some((7, due)) = clocks.due(512).filter(|(_, due)| !due.is_empty()) {
            assert!(due.len() <= 512 && !due.contains(&1));
            ended += due.len();
        }
        assert_eq!(ended, LEASES as usize - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_starts_the_time_anew_until_the_expiry_is_proposed() {
        let clocks = LeaseClocks::new(Env::os());
        clocks.lead(Some(1));
        clocks.observe(LeaseEvent::Granted(LEASE));
        for _ in 0..5 {
            pass(9).await;
            assert!(clocks.renew(LEASE));
            assert_eq!(due(&clocks), Vec::<i64>::new());
        }
        pass(10).await;
        assert_eq!(due(&clocks), vec![1]);
        assert!(!clocks.renew(LEASE), "its expiry may already be in the log");
        clocks.list(&[LEASE]);
        assert_eq!(due(&clocks), Vec::<i64>::new(), "proposed only once");
        clocks.retry(1, 1, Duration::from_secs(1));
        assert!(!clocks.renew(LEASE), "nor while the fate of the first proposal is unknown");
        clocks.list(&[LEASE]);
        pass(1).await;
        assert_eq!(due(&clocks), vec![1]);
        clocks.settled(1);
    }

    #[tokio::test(start_paused = true)]
    async fn leases_are_sorted_by_their_ends() {
        let clocks = LeaseClocks::new(Env::os());
        let lease = |id, ttl_s| LeaseInfo { id, ttl_s };
        let sorted = |mut leases: Vec<LeaseInfo>| {
            clocks.sort(&mut leases);
            leases.iter().map(|lease| lease.id).collect::<Vec<_>>()
        };
        let all = [lease(5, 20), lease(2, 30), lease(1, 20), lease(9, 10)];
        assert_eq!(sorted(all.to_vec()), [1, 2, 5, 9], "a follower does not know");
        clocks.lead(Some(1));
        all[1..].iter().for_each(|lease| clocks.observe(LeaseEvent::Granted(*lease)));
        assert_eq!(sorted(all.to_vec()), [9, 1, 2, 5]);
        pass(5).await;
        assert!(clocks.renew(all[3]) && clocks.renew(all[2]));
        assert_eq!(sorted(all.to_vec()), [9, 1, 2, 5]);
        pass(1).await;
        assert!(clocks.renew(all[3]));
        clocks.observe(LeaseEvent::Granted(all[0]));
        assert_eq!(sorted(all.to_vec()), [9, 1, 5, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_revoked_is_forgotten_and_old_terms_are_not_heard() {
        let clocks = LeaseClocks::new(Env::os());
        clocks.lead(Some(1));
        clocks.observe(LeaseEvent::Granted(LEASE));
        clocks.observe(LeaseEvent::Revoked { id: 1 });
        pass(100).await;
        assert_eq!(due(&clocks), Vec::<i64>::new());
        clocks.observe(LeaseEvent::Granted(LEASE));
        pass(10).await;
        assert_eq!(due(&clocks), vec![1]);
        clocks.lead(Some(2));
        clocks.retry(1, 1, Duration::ZERO);
        assert_eq!(due(&clocks), Vec::<i64>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_lease_can_be_counted() {
        let clocks = LeaseClocks::new(Env::os());
        clocks.lead(Some(1));
        clocks.observe(LeaseEvent::Granted(LeaseInfo { id: 1, ttl_s: i64::MAX }));
        clocks.observe(LeaseEvent::Granted(LeaseInfo { id: 2, ttl_s: -1 }));
        assert_eq!(due(&clocks), vec![2]);
    }
}
