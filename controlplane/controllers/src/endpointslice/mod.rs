//! EndpointSlices for Services with a selector.

pub mod plan;
mod reconcile;

pub use reconcile::EndpointSliceController;
