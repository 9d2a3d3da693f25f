//! Bounds of the log. Reaching one has a defined answer, named beside it.

/// A segment that grew beyond so many bytes is closed and a new one begun.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// A segment that has to grow does so by this part of its largest size more than it needs: 1 MiB.
pub const RESERVES_PER_SEGMENT: u64 = 64;
/// Larger entries are refused.
pub const ENTRY_BYTES_MAX: usize = 32 << 20;
/// A frame is closed once its payload has so many bytes; it may exceed them by one record.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// Operations waiting for the writer; callers wait for a place.
pub const QUEUE_OPS_MAX: usize = 1_024;
/// Kibibytes of entries waiting for the writer; callers wait for a place.
pub const QUEUE_KIB_MAX: u32 = 64 << 10;
/// Bytes of recent entries kept in memory besides those that wait for the writer; older ones are read from
/// disk.
pub const CACHE_BYTES_MAX: usize = 32 << 20;
/// Bytes that one read from disk fetches at once, plus one entry.
pub const READ_BYTES_MAX: usize = 4 << 20;
/// Memory for encoding a batch that is kept for the next one; what a larger batch needed is given back.
pub const BUFFER_KEPT_BYTES_MAX: usize = 1 << 20;
/// How long the writer waits before it tries a full disk again; what waits meanwhile keeps its place.
pub const FULL_DISK_RETRY_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
