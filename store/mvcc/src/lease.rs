use std::sync::Arc;

/// A granted lease. Its clock is Raft's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    pub id: i64,
    /// The granted time to live, in seconds.
    pub ttl_s: i64,
}

/// What happened to the set of leases, in apply order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    Granted(LeaseInfo),
    Revoked {
        id: i64,
    },
    /// The whole state was replaced by a snapshot: read [`Mvcc::leases`](crate::Mvcc::leases) again.
    Reset,
}

/// Called in apply order, on the applying thread, after the change can be read. Must be quick and must not
/// apply entries itself.
pub type LeaseObserver = Arc<dyn Fn(LeaseEvent) + Send + Sync>;
