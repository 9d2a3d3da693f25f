//! How objects are kept in the store: keys, envelopes, snapshots, watches and the watch cache.
//!
//! Invariants: resourceVersion = the store's modification revision and never goes back; every write is a
//! compare-and-set on what was read; a paginated list is one snapshot; list at a revision plus watch from it is
//! the state; no call waits for the store without a deadline. Direct ([`EtcdStorage`]) and cached
//! ([`Cacher`]) storage pass the same conformance suite.

pub mod constants;
mod continue_token;
mod envelope;
mod object;
mod predicate;
mod storage;

pub use object::StoredObject;
pub use predicate::Predicate;
pub use storage::{
    Freshness, ListOptions, ListPage, Outcome, Preconditions, Storage, Update, Verdict, WatchEvent, WatchEvents,
    WatchOptions, WatchStart,
};
