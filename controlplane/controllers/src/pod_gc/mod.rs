//! Removes pods that nobody else will: of nodes that are gone, finished ones above a number, and those that
//! are to be deleted before they were ever assigned.

pub mod plan;
mod reconcile;

pub use reconcile::{PodGc, PodGcConfig};
