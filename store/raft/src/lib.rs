//! The replicated log: consensus (openraft) over the WAL, with the MVCC store as its state machine.
//!
//! The only crate that names openraft. [`RaftNode`] is what the rest of the store sees.

mod config;
pub mod constants;
mod error;
mod status;

/// The messages that members exchange.
#[allow(missing_docs, clippy::all)]
pub(crate) mod peer {
    tonic::include_proto!("keelstone.peer.v1");
}

pub use config::{Limits, MemberInfo, RaftConfig, Timing};
pub use error::RaftError;
pub use status::RaftStatus;
