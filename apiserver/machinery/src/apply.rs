//! Server-side apply and the ownership of fields (`metadata.managedFields`).

use serde_json::Value;

use crate::gvk::GroupVersionKind;
use crate::status::{ApiResult, ApiStatus};

/// Applies `config` to `live` as `manager`; gives the new object, managedFields and all. `live` is `None` if
/// the object does not exist yet. `now` is RFC 3339.
///
/// # Errors
/// 409 that names the managers whose fields the configuration changes, unless `force`; 400 for a
/// configuration that does not fit its schema.
pub fn apply(
    gvk: &GroupVersionKind,
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    subresource: &str,
    now: &str,
) -> ApiResult<Value> {
    let _ = (gvk, live, config, manager, force, subresource, now);
    Err(ApiStatus::unsupported_media_type(&["application/json"]))
}

/// Notes in `new`'s managedFields what a write other than apply by `manager` changed from `old` (`None` on
/// creation). `now` is RFC 3339.
pub fn track_update(
    gvk: &GroupVersionKind,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    subresource: &str,
    now: &str,
) {
    let _ = (gvk, old, new, manager, subresource, now);
}
