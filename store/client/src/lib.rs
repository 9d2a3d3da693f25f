//! How the store is reached: the [`EtcdKv`] trait and its gRPC implementation with safe retries.

mod kv;

pub use kv::{EtcdKv, KvError, WatchStream};
