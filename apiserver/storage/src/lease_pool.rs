use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::constants::{LEASE_KEYS_MAX, LEASE_REUSE_S};

/// Leases shared by the keys that were written within the same minute: one lease for each event object would
/// cost the store more than the event.
#[derive(Debug, Default)]
pub struct LeasePool {
    by_ttl_s: BTreeMap<i64, Shared>,
}

#[derive(Debug)]
struct Shared {
    id: i64,
    reusable_until: Instant,
    keys: u64,
}

impl LeasePool {
    /// The TTL to ask for, so that the last key that joins still lives for `ttl_s`.
    pub fn granted_ttl_s(ttl_s: i64) -> i64 {
        ttl_s.saturating_add(LEASE_REUSE_S)
    }

    /// A lease that another key may join, counting that key.
    pub fn take(&mut self, ttl_s: i64, now: Instant) -> Option<i64> {
        let lease = self.by_ttl_s.get_mut(&ttl_s)?;
        if now >= lease.reusable_until || lease.keys >= LEASE_KEYS_MAX {
            return None;
        }
        lease.keys += 1;
        Some(lease.id)
    }

    /// Remembers a lease that was granted by a request sent at `asked_at`, with its first key.
    pub fn put(&mut self, ttl_s: i64, id: i64, asked_at: Instant) {
        let reuse = Duration::from_secs(LEASE_REUSE_S.unsigned_abs());
        self.by_ttl_s.insert(ttl_s, Shared { id, reusable_until: asked_at + reuse, keys: 1 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_shared_for_a_minute_and_up_to_its_bound() {
        let mut pool = LeasePool::default();
        let now = Instant::now();
        assert_eq!(pool.take(3600, now), None);
        pool.put(3600, 7, now);
        assert_eq!(pool.take(3600, now + Duration::from_secs(59)), Some(7));
        assert_eq!(pool.take(60, now), None);
        assert_eq!(pool.take(3600, now + Duration::from_secs(60)), None);
        for _ in 2..LEASE_KEYS_MAX {
            assert_eq!(pool.take(3600, now), Some(7));
        }
        assert_eq!(pool.take(3600, now), None);
    }
}
