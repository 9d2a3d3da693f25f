//! A member of the store: the etcd v3 API over the replicated state machine, and plain HTTP for probes.
//!
//! Invariants: every call ends within [`constants::REQUEST_MS_MAX`] and a little, with or without a quorum;
//! what is worked on at one time is bounded; every response carries the cluster's and member's ids, the
//! revision and the term. The in-process client ([`RunningStore::kv`]) and gRPC share one implementation.

mod admission;
mod auth;
mod auto_compaction;
mod backup;
mod client_listener;
mod config;
pub mod constants;
mod coordination;
mod error;
mod exposition;
pub mod flags;
mod gateway;
mod grpc;
mod http;
mod identity;
mod local_kv;
mod member;
mod member_admin;
mod metered;
mod method;
mod metrics;
mod ops;
mod quorum;
mod recovery;
mod restore;
mod retention;
mod running;
mod space;
mod store_server;
mod watch;

pub use auto_compaction::AutoCompaction;
pub use config::{InitialMember, MoreListener, PeerTls, StoreConfig};
pub use error::StoreError;
#[cfg(feature = "rocks")]
pub use keelstone_engine_rocks::{RocksEngine, RocksOptions};
pub use keelstone_raft::{Recovery, Timing};
pub use member_admin::{AddedMember, MemberAdmin};
pub use recovery::{plan_recovery, recover};
pub use restore::restore_member;
pub use running::RunningStore;
pub use store_server::StoreServer;
