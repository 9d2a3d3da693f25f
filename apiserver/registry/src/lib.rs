//! The generic create, read, update and delete of API objects, and what a kind adds to it ([`Resource`]).
//!
//! Invariants: a write is decided and admitted on exactly the state that it replaces; bad input gets the Status
//! that client-go matches and changes nothing; an object goes away only when its grace period is over and its
//! finalizers are gone.

pub mod constants;
mod create;
mod delete;
mod hook;
mod name;
mod params;
mod query;
mod registry;
mod resource;
mod scale;
mod store;
mod update;

pub use delete::Deleted;
pub use hook::{NoHook, Operation, WriteHook};
pub use params::{DeleteOptions, ListParams, Propagation, WriteRequest};
pub use registry::Registry;
pub use resource::{Column, Resource, WriteContext};
pub use store::{ResourceStore, Written};
pub use update::{Make, PatchRequest};
