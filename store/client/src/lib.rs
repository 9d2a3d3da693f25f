//! How the store is reached: the [`EtcdKv`] trait and its gRPC implementation with safe retries.
//!
//! Invariants: a call ends within [`constants::REQUEST_MS_MAX`]; a request that changes the store is sent a
//! second time only if the first was certainly not carried out; [`KvError`] says which of the two it was.

mod attempt;
pub mod constants;
mod grpc_kv;
mod kv;
mod login;
mod members;
mod resume;
mod watch;

pub use attempt::Verdict;
pub use grpc_kv::{GrpcKv, GrpcKvOptions};
pub use kv::{EtcdKv, KvError, WatchStream};
pub use login::User;
pub use resume::resume;
