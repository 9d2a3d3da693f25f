//! Every bound of the state machine, with its unit.

/// Operations in one level of a txn (compares, success or failure branch), as etcd's default.
pub const TXN_OPS_MAX: usize = 128;
/// The longest lease, in seconds; as etcd's.
pub const LEASE_TTL_S_MAX: i64 = 9_000_000_000;
/// Data that may be stored before writes are refused, by default: 8 GiB.
pub const QUOTA_BYTES_DEFAULT: u64 = 8 << 30;
/// Events kept in memory for watchers that are nearly in step.
pub const WATCH_WINDOW_EVENTS_MAX: usize = 16_384;
/// Bytes of events kept in memory for watchers that are nearly in step.
pub const WATCH_WINDOW_BYTES_MAX: usize = 32 << 20;
/// Events in one answer of a watcher; a single revision is never split, so that it may hold more.
pub const WATCH_BATCH_EVENTS_MAX: usize = 1000;
/// Bytes of keys and values in one answer of a watcher; with the same exception.
pub const WATCH_BATCH_BYTES_MAX: usize = 2 << 20;
/// A read that meets a view which compaction or a restore overtook is repeated at most so often.
pub const READ_RETRIES_MAX: usize = 8;
/// Versions of one key in its newest block; more go to older, shared blocks.
pub const HISTORY_BLOCK_VERSIONS_MAX: usize = 32;
