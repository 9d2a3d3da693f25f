//! Histories and the invariants they must keep: one file per invariant, pure, shared by the simulation and
//! the chaos suite. Numbers in brackets are the invariants of docs/architecture.md.

pub mod append_list;
pub mod bank;
pub mod collection;
pub mod commit_quorum;
pub mod durability;
mod ending;
pub mod eviction;
mod graph;
pub mod history;
pub mod identity;
pub mod leadership;
pub mod lease;
pub mod linearizability;
mod list_client;
pub mod lock;
pub mod mirror;
pub mod node_times;
pub mod objects;
pub mod overcommit;
mod register_client;
pub mod replicas;
pub mod rest;
pub mod rewind;
pub mod set;
pub mod state_hash;
pub mod terms;
pub mod untouched;
pub mod watch;
pub mod watch_prev_kv;

pub use ending::{Ended, Ending};
pub use history::{Call, Event, History, Operation, Outcome};
pub use list_client::ListClient;
pub use register_client::RegisterClient;

/// A broken invariant, told so that a person can follow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {story}")]
pub struct Violation {
    /// The name of the checker.
    pub invariant: &'static str,
    pub story: String,
}

impl Violation {
    pub fn new(invariant: &'static str, story: impl Into<String>) -> Self {
        Self { invariant, story: story.into() }
    }
}
