//! Writes into aggregated ClusterRoles the rules of the roles that their selectors match, for readers.
//! (The authorizer gathers them by itself.)

pub mod plan;
mod reconcile;

pub use reconcile::ClusterRoleAggregation;
