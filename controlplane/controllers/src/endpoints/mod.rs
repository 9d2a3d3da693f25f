//! The older Endpoints objects, for Services with a selector.

pub mod plan;
mod reconcile;

pub use reconcile::EndpointsController;
