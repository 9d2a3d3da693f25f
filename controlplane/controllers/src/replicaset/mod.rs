//! Keeps as many pods as each ReplicaSet asks for.

pub mod plan;
mod rank;
mod reconcile;

pub use reconcile::ReplicaSetController;
