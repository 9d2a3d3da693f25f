//! Service addresses and node ports: one key of the store for each that is taken, so that masters which
//! allocate at the same time cannot take the same one.

mod owner;
mod pool;
mod repair;
mod service;

pub use owner::Owner;
pub use pool::Pools;
pub use repair::repair;
pub use service::ServiceAllocation;
