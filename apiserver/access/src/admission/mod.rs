//! Admission: what is added to objects and what is refused, beyond what their kind says of itself.

mod account;
mod chain;
mod namespace;
mod node;
mod pod_defaults;
mod rbac;

pub use chain::{Admission, AdmissionConfig, Operation, Request};
