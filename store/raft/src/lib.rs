//! The replicated log: consensus (openraft) over the WAL, with the MVCC store as its state machine.
//!
//! The only crate that names openraft. [`RaftNode`] is what the rest of the store sees.
//!
//! Invariants: an entry is applied only once the local log has it on disk; the log is purged only up to what
//! the state machine has on disk; a snapshot is on disk before its installation is answered; an outcome that
//! is not known is said to be unknown and never tried again.

mod config;
pub mod constants;
mod convert;
mod core;
mod error;
mod follow;
#[cfg(test)]
mod fuzz;
mod gate;
mod lease_clocks;
mod lease_expiry;
mod log_store;
mod maintenance;
mod network;
mod node;
mod outcome;
mod peers;
mod proposer;
mod reads;
mod runtime;
mod seed;
mod service;
mod snapshot;
mod state_machine;
mod status;
#[cfg(test)]
mod suite_test;
mod types;

/// The messages that members exchange.
#[allow(missing_docs, clippy::all)]
pub(crate) mod peer {
    tonic::include_proto!("keelstone.peer.v1");
}

pub use config::{Limits, MemberInfo, RaftConfig, Timing};
pub use error::RaftError;
pub use node::RaftNode;
pub use seed::seed_log;
pub use service::{PeerHandler, PeerService};
pub use status::RaftStatus;
