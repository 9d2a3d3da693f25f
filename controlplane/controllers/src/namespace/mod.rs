//! Empties namespaces that are being deleted, then lets them go.

pub mod plan;
mod reconcile;

pub use reconcile::NamespaceController;
