//! Watch streams: one session for each stream, one task for each watch on it.
//!
//! Every response of a stream passes one bounded queue, so that a client that does not read holds up its own
//! watches alone, and a progress response is behind the events that it speaks of.

mod access;
mod fragment;
mod session;
mod task;
mod tasks;

pub(crate) use access::WatchAccess;
pub(crate) use session::start;
pub(crate) use tasks::Tasks;
