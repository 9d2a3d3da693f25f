//! The ordered key-value engine under the MVCC store: atomic batches, pinned snapshots, ranges, a durable
//! point that grows by flushes. Owned by one state machine, which writes in one stream.

mod api;

/// A page holds at most so many bytes, plus one pair.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

pub use api::{Batch, Write, Column, Direction, Engine, EngineError, Page, RangeRequest, Snapshot};
