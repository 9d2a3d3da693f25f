//! RocksDB behind the engine trait. The only crate that names RocksDB, because it takes minutes to build.
//!
//! RocksDB's own log is off: the Raft log is the one that is synced, and replays what a crash took. All columns
//! are flushed atomically, so that a crash leaves one batch boundary.

mod constants;
mod engine;
mod options;
mod snapshot;

pub use engine::RocksEngine;
pub use options::RocksOptions;
