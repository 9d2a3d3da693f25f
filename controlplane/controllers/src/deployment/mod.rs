//! Brings ReplicaSets, one for each version of a Deployment's pod template, to what the Deployment asks for.

mod cleanup;
pub mod names;
pub mod plan;
mod reconcile;
mod revision;
mod rollout;
mod scale;
mod sets;
mod status;
#[cfg(test)]
mod tests;

pub use reconcile::DeploymentController;
