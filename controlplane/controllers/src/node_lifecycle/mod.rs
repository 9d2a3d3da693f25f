//! Notices nodes that no longer report, and taints nodes by their conditions.

pub mod plan;
mod reconcile;
pub mod zones;

pub use reconcile::{NodeLifecycle, NodeLifecycleConfig};
