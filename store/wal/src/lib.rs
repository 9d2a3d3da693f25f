//! The Raft log on disk (under construction).

/// A segment that grew beyond so many bytes is closed and a new one begun.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
