//! The multi-version key-value state machine: committed entries in, replies and watch events out.
//!
//! Pure: no I/O but through the engine trait, no clock, no randomness. What an entry does depends only on
//! the entries before it, so that members with an equal applied index are equal.

pub mod check;
mod command;
pub mod constants;
mod error;
mod lease;
mod mvcc;
mod options;
mod range_bounds;
mod snapshot;
mod watch;

pub use command::{Applied, Command, Entry, LeaseExpire, Op, Payload, Reply, Response};
pub use error::MvccError;
pub use lease::{LeaseEvent, LeaseInfo, LeaseObserver};
pub use mvcc::Mvcc;
pub use options::MvccOptions;
pub use range_bounds::RangeBounds;
pub use snapshot::{Installer, Pinned};
pub use watch::{WatchBatch, WatchSpec, Watcher};
