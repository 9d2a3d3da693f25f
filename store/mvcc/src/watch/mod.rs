//! Watches. A watcher is a cursor, not a queue: it reads recent revisions from a bounded window that all
//! watchers share, and older ones from the store, so that a slow one costs no memory and delays nobody.

mod spec;
mod watcher;

pub use spec::{WatchBatch, WatchSpec};
pub use watcher::Watcher;
