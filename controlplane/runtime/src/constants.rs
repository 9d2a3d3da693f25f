//! Bounds and periods of this crate.

/// Different keys that one work queue holds; more are dropped, and the controller looks at everything again
/// once the queue has drained.
pub const QUEUE_KEYS_MAX: usize = 200_000;
/// The first pause after a failed reconciliation, doubled for each further one (client-go's item limiter).
pub const RETRY_MS_MIN: u64 = 5;
/// The longest pause after failed reconciliations.
pub const RETRY_MS_MAX: u64 = 1_000_000;
/// How long an own write may stay unseen before the controller acts all the same (client-go's
/// ExpectationsTimeout).
pub const EXPECTATION_S_MAX: u64 = 300;
/// A write that was given up may still be on its way to the store's log for this long.
pub const UNCERTAIN_MS_MAX: u64 = 3_000;
/// When a controller's cache is behind its own writes it looks again after this long, if no event comes first.
pub const CATCH_UP_RETRY_MS: u64 = 500;
