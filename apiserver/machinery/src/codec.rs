//! Request and response bodies: JSON, YAML, Kubernetes protobuf.

use serde_json::Value;

use crate::gvk::GroupVersionKind;
use crate::status::{ApiResult, ApiStatus};

pub const JSON: &str = "application/json";
pub const YAML: &str = "application/yaml";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A decoded body, not yet checked against its kind's schema (`schema::check_fields`).
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub object: Value,
    /// The paths of fields that the body gave more than once; the last one won.
    pub duplicates: Vec<String>,
}

/// Decodes a body. `content_type` is the header's value (parameters allowed, empty means JSON); apiVersion
/// and kind are taken from `default` where the body leaves them out.
///
/// # Errors
/// 400 for a body that is not of that form, 413 over the bound, 415 for another content type.
pub fn decode(content_type: &str, body: &[u8], default: Option<&GroupVersionKind>) -> ApiResult<Decoded> {
    let _ = (body, default);
    Err(ApiStatus::unsupported_media_type(&[content_type]))
}

/// Encodes an object in Kubernetes protobuf, envelope included.
///
/// # Errors
/// 406 if the kind has no protobuf form.
pub fn encode_protobuf(object: &Value) -> ApiResult<Vec<u8>> {
    let _ = object;
    Err(ApiStatus::not_acceptable(&[JSON, YAML]))
}

/// The form that an Accept header asks for among JSON, YAML and protobuf, if it asks for one of them.
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}
