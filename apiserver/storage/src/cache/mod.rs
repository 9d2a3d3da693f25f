//! The watch cache: ONE watch over the whole store feeds the caches of all resources.
//!
//! Because the feed sees every key, its revision reaches the store's after every write, whatever was written:
//! a consistent read is one cheap quorum read of the revision and a wait until the feed has got there.
//! Watchers read a resource's ring of changes at their own pace, so none delays another.

mod feed;
mod fill;
mod resource;
mod storage;
mod watch;

pub use feed::Cacher;
pub use storage::CachedStorage;
