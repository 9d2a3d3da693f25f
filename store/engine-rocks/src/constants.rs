use std::time::Duration;

/// Blocks of data and indexes kept in memory, by default.
pub const CACHE_BYTES_DEFAULT: usize = 64 << 20;
/// Unflushed data of all columns; RocksDB flushes by itself beyond it, by default.
pub const WRITE_BUFFER_BYTES_DEFAULT: usize = 32 << 20;
/// Files that RocksDB holds open.
pub const OPEN_FILES_MAX: i32 = 512;
/// Background flushes and compactions at a time.
pub const BACKGROUND_JOBS_MAX: i32 = 2;
/// What flushes and compactions together write in a second at most. They take turns with the log on the same disk, and
/// with everybody on the processors. They keep up with 39,000 puts of 256 B a second at two thirds of it; when they do
/// not, RocksDB makes writers wait.
pub const BACKGROUND_BYTES_PER_S_MAX: i64 = 48 << 20;
/// So often they are given their part of it, so that they write in small pieces.
pub const BACKGROUND_REFILL_US: i64 = 20_000;
/// One of so many of their requests is served out of turn, so that compactions are not starved by flushes.
pub const BACKGROUND_FAIRNESS: i32 = 10;
/// Files go to the disk in pieces of this size while they are written, not at once when they are whole: the log's syncs
/// wait behind what the disk has been given.
pub const BYTES_PER_SYNC: u64 = 1 << 20;
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
