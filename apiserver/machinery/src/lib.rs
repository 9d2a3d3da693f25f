//! The Kubernetes API's rules, pure: names, metadata, selectors, quantities, schema facts, codecs, patches,
//! server-side apply, Status errors. No I/O, no clock, no randomness.
//!
//! Objects are `serde_json::Value` maps; what a field is and may be comes from one table of facts.

pub mod apply;
pub mod codec;
pub mod constants;
pub mod facts;
pub mod field;
pub mod gvk;
pub mod meta;
pub mod openapi;
pub mod patch;
pub mod quantity;
mod resource_info;
pub mod schema;
pub mod selector;
pub mod status;
pub mod validation;

pub use meta::Object;
pub use resource_info::{ResourceInfo, SubresourceInfo};
pub use status::{ApiResult, ApiStatus};
