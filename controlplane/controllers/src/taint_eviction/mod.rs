//! Deletes pods from nodes whose NoExecute taints they do not (or no longer) tolerate.

pub mod plan;
mod reconcile;

pub use reconcile::TaintEviction;
