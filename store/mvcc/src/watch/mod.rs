//! Watches. A watcher is a cursor, not a queue: it reads recent revisions from a bounded window that all
//! watchers share, and older ones from the store, so that a slow one costs no memory and delays nobody.

mod catch_up;
mod event;
mod hub;
mod spec;
mod watcher;
mod window;

pub use event::{Change, Prev, RevisionEvents};
pub use hub::Hub;
pub use spec::{WatchBatch, WatchSpec};
pub use watcher::Watcher;
