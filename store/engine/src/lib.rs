//! The ordered key-value engine under the MVCC store: atomic batches, pinned snapshots, ranges, a durable
//! point that grows by flushes. Owned by one state machine, which writes in one stream.

mod api;
pub mod conformance;
mod constants;
mod mem;

pub use api::{Batch, Column, Direction, Engine, EngineError, Page, RangeRequest, Snapshot, Write};
pub use constants::PAGE_BYTES_MAX;
pub use mem::{MemEngine, MemOptions};
