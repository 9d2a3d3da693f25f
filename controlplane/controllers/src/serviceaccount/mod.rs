//! Each active namespace has the ServiceAccount `default`.

mod reconcile;

pub use reconcile::ServiceAccountController;
