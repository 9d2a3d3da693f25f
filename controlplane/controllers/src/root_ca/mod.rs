//! Each active namespace has the ConfigMap `kube-root-ca.crt`, so that pods can verify the API server.

pub mod plan;
mod reconcile;

pub use reconcile::RootCaPublisher;
