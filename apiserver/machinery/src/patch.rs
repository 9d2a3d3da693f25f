//! The three patches that carry no ownership: JSON patch, merge patch, strategic merge patch.

use serde_json::Value;

use crate::gvk::GroupVersionKind;
use crate::status::{ApiResult, ApiStatus};

/// Applies a JSON patch (RFC 6902).
///
/// # Errors
/// 400 if it is malformed, 413 over the bound, 422 if an operation does not fit the document.
pub fn json_patch(document: &Value, patch: &Value) -> ApiResult<Value> {
    let _ = (document, patch);
    Err(ApiStatus::unsupported_media_type(&[]))
}

/// Applies a merge patch (RFC 7386).
///
/// # Errors
/// 400 if it is not a map.
pub fn merge_patch(document: &Value, patch: &Value) -> ApiResult<Value> {
    let _ = (document, patch);
    Err(ApiStatus::unsupported_media_type(&[]))
}

/// Applies a strategic merge patch: lists merge by the keys that the kind's schema names.
///
/// # Errors
/// 400 for a malformed patch or directive, 415 for a kind without a schema.
pub fn strategic_merge_patch(gvk: &GroupVersionKind, document: &Value, patch: &Value) -> ApiResult<Value> {
    let _ = (gvk, document, patch);
    Err(ApiStatus::unsupported_media_type(&[]))
}
