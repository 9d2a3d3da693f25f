//! Every bound of backups, with its unit and its answer at the limit.

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
