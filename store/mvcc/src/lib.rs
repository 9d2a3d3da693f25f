//! The multi-version key-value state machine: committed entries in, replies and watch events out.
//!
//! Pure: no I/O but through the engine trait, no clock, no randomness. What an entry does depends only on
//! the entries before it, so that members with an equal applied index are equal.

// See that crate.
#[cfg(madsim)]
extern crate keelstone_madsim as tokio;

mod apply;
mod auth;
pub mod check;
mod command;
mod compact;
pub mod constants;
mod error;
mod export;
mod hash;
mod index;
mod lease;
mod load;
mod mvcc;
mod options;
mod quota;
mod range_bounds;
mod read;
mod recent;
mod record;
mod shared;
mod snapshot;
mod staged;
mod stream;
mod view;
mod watch;

pub use auth::{AuthChange, AuthCommand, AuthContent, AuthEnable, AuthStatus, AuthView, Caller, UserPassword};
pub use command::{Applied, Command, Entry, LeaseExpire, Moment, Op, Payload, Reply, Response};
pub use error::MvccError;
pub use export::{Export, Import, ImportHead, Row};
pub use lease::{LeaseEvent, LeaseInfo, LeaseObserver};
pub use mvcc::Mvcc;
pub use options::MvccOptions;
pub use range_bounds::RangeBounds;
pub use snapshot::{Installer, Pinned};
pub use stream::RangeChunks;
pub use watch::{WatchBatch, WatchSpec, Watcher};
