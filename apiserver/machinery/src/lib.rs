//! The Kubernetes API's rules, pure: names, metadata, selectors, quantities, schema facts, codecs, patches,
//! server-side apply, Status errors. No I/O, no clock, no randomness.
//!
//! Objects are `serde_json::Value` maps; what a field is and may be comes from one table of facts.

pub mod gvk;
mod resource_info;

pub use resource_info::{ResourceInfo, SubresourceInfo};
