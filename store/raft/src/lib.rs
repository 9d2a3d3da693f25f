//! The replicated log: consensus (openraft) over the WAL, with the MVCC store as its state machine.
//!
//! The only crate that names openraft. [`RaftNode`] is what the rest of the store sees.
//!
//! Invariants: an entry is applied only once the local log has it on disk; the log is purged only up to what
//! the state machine has on disk; a snapshot is on disk before its installation is answered; an outcome that
//! is not known is said to be unknown and never tried again.

// See that crate.
#[cfg(madsim)]
extern crate keelstone_madsim as tokio;

mod autopilot;
mod config;
pub mod constants;
mod convert;
mod core;
mod data_dir;
mod discover;
mod error;
mod features;
mod follow;
mod formation;
#[cfg(test)]
mod fuzz;
mod gate;
mod hash_history;
mod leadership;
mod lease_clocks;
mod lease_expiry;
mod log_store;
mod maintenance;
mod membership;
mod network;
mod node;
mod outcome;
mod peers;
mod presence;
mod proposer;
mod reads;
mod recover;
mod repair;
mod rules;
#[cfg_attr(madsim, path = "runtime_madsim.rs")]
mod runtime;
mod seed;
mod service;
mod snapshot;
mod state_check;
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
pub use data_dir::{lock_data_dir, DataOwner};
pub use discover::{discover, Discovered};
pub use error::RaftError;
pub use membership::MemberChanged;
pub use node::RaftNode;
pub use recover::{plan_recovery, recover, Recovery};
pub use rules::MemberChange;
#[cfg(madsim)]
pub use runtime::pass_suite;
pub use seed::seed_log;
pub use service::{PeerHandler, PeerService};
pub use status::RaftStatus;
