use std::time::Duration;

/// Blocks of data and indexes kept in memory, by default.
pub const CACHE_BYTES_DEFAULT: usize = 64 << 20;
/// Unflushed data of all columns; RocksDB flushes by itself beyond it, by default.
pub const WRITE_BUFFER_BYTES_DEFAULT: usize = 32 << 20;
/// Files that RocksDB holds open.
pub const OPEN_FILES_MAX: i32 = 512;
/// Background flushes and compactions at a time.
pub const BACKGROUND_JOBS_MAX: i32 = 2;
/// RocksDB's information logs kept, and the size of each.
pub const LOG_FILES_MAX: usize = 2;
pub const LOG_FILE_BYTES_MAX: usize = 4 << 20;
/// Bits per key of the filters.
pub const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// A file is merged soon if so many of any so many neighbouring entries are deletions, or this part of all.
pub const DELETIONS_WINDOW: usize = 4_096;
pub const DELETIONS_TRIGGER: usize = 2_048;
pub const DELETIONS_RATIO: f64 = 0.3;
/// How often a write that found no space is tried again.
pub const SPACE_POLL_INTERVAL: Duration = Duration::from_millis(200);
