//! Every bound of backups, with its unit and its answer at the limit.

use std::time::Duration;

/// Page size of the bbolt files that are written, in bytes; etcd's on most machines.
pub const BOLT_PAGE_BYTES: usize = 4096;
/// A key in a bbolt file, in bytes (bbolt's own bound); a longer one is refused.
pub const BOLT_KEY_BYTES_MAX: usize = 32_768;
/// A value in a bbolt file, in bytes (bbolt's own bound); a longer one is refused.
pub const BOLT_VALUE_BYTES_MAX: usize = (1 << 31) - 2;
/// One page with its overflow that is read at once, in bytes; a larger one is refused as damage. A request
/// may have 1.5 MiB by default, so that this is far beyond what etcd writes.
pub const BOLT_PAGE_READ_BYTES_MAX: u64 = 256 << 20;
/// Levels of a bbolt tree; a deeper one is refused as damage.
pub const BOLT_DEPTH_MAX: usize = 32;
/// Buckets in buckets; deeper ones are refused as damage.
pub const BOLT_NESTING_MAX: usize = 16;
/// What one read of a file being checked or copied takes, in bytes.
pub const COPY_BYTES: usize = 1 << 20;
/// A message of `Maintenance.Snapshot`, in bytes; etcd's.
pub const SNAPSHOT_CHUNK_BYTES: usize = 32 << 10;
/// A log segment is closed once it is this long, in bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// A frame of a log segment is written once it holds this much, in bytes; one revision is never split.
pub const FRAME_BYTES: usize = 1 << 20;
/// A frame that is read, in bytes; a larger one is damage.
pub const FRAME_BYTES_MAX: usize = 512 << 20;
/// Changes wait for so long at most before they are made durable in the backup.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// How often an idle store is asked how far it is, so that the backup can say up to when it is complete.
pub const MARK_INTERVAL: Duration = Duration::from_secs(5);
/// How often leases are compared.
pub const LEASE_INTERVAL: Duration = Duration::from_secs(10);
/// Time between full backups, by default.
pub const FULL_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Full backups that are kept, by default, with all changes since the oldest of them.
pub const FULLS_KEPT: usize = 7;
/// Pause before a broken connection to the store is tried again.
pub const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// A call to the store that takes longer is given up and tried again; streams are not calls.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(10);
/// A restored lease whose time to live the backup does not know, in seconds.
pub const LEASE_TTL_S_UNKNOWN: i64 = 300;
/// Added to the revision of a restored cluster unless asked otherwise: more than were lost, whatever was lost
/// (a day of ten thousand writes a second).
pub const EPOCH_REVISIONS: i64 = 1_000_000_000;
