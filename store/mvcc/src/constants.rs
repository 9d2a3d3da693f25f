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
/// Keys counted together; a count looks at one such bucket at each end of its range.
pub const BUCKET_KEYS_MAX: usize = 256;
/// Buckets, or children, in one node of the tree of counts.
pub const COUNT_NODE_SLOTS_MAX: usize = 64;
/// Rows of the index read in one go.
pub const INDEX_PAGE_ROWS: usize = 512;
/// Values read in one go, in number and bytes.
pub const VALUES_PAGE: usize = 512;
pub const VALUES_PAGE_BYTES: usize = 1 << 20;
/// Keys that a range in chunks finds in one go.
pub const STREAM_PAGE_KEYS: usize = 1_024;
/// Rows whose index is built in one engine batch when an older format is taken over.
pub const INDEX_BUILD_BATCH_ROWS: usize = 10_000;
/// What a key of an answer costs in memory beside its bytes, for admission.
pub const RANGE_KEY_OVERHEAD_BYTES: usize = 160;
/// Keys whose newest version is remembered; one whose place another took is looked up.
pub const RECENT_ROWS_MAX: usize = 32_768;
/// Bytes of a value, with its key, that is remembered too; a larger one is looked up.
pub const RECENT_RECORD_BYTES_MAX: usize = 4 << 10;
/// Bytes of all that is remembered; then values are not, but where they take the place of others.
pub const RECENT_BYTES_MAX: usize = 16 << 20;
