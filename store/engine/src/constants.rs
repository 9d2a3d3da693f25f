/// A page holds at most so many bytes, plus one pair.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// The memory engine flushes by itself when so many bytes wait for a flush.
pub(crate) const MEM_PENDING_BYTES_MAX: usize = 64 << 20;
/// The memory engine's file is not rewritten while it is smaller than this.
pub(crate) const MEM_FILE_BYTES_MIN: u64 = 1 << 20;
/// The memory engine's file is rewritten when it is so many times as large as the live data.
pub(crate) const MEM_FILE_GARBAGE_FACTOR: u64 = 3;
