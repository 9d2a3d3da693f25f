//! How objects are kept in the store: keys, envelopes, snapshots, watches and the watch cache.
//!
//! Invariants: resourceVersion = the store's modification revision and never goes back; every write is a
//! compare-and-set on what was read; a paginated list is one snapshot; list at a revision plus watch from it is
//! the state; no call waits for the store without a deadline. Direct ([`EtcdStorage`]) and cached
//! ([`Cacher`]) storage pass the same conformance suite.

mod access;
mod cache;
mod change;
mod compactor;
mod config;
pub mod constants;
mod continue_token;
mod envelope;
mod error;
mod etcd;
mod etcd_list;
mod etcd_watch;
mod lease_pool;
mod object;
mod predicate;
mod storage;
pub mod testing;

pub use access::StoreAccess;
pub use cache::{CachedStorage, Cacher};
pub use compactor::{compact_forever, Compactor};
pub use config::{Decorate, StorageConfig};
pub use error::{too_large_resource_version, too_old_resource_version};
pub use etcd::EtcdStorage;
pub use object::StoredObject;
pub use predicate::Predicate;
pub use storage::{
    Freshness, ListOptions, ListPage, Outcome, Preconditions, Storage, Update, Verdict, WatchEvent, WatchEvents,
    WatchOptions, WatchStart,
};
