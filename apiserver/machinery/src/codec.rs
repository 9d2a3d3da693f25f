//! Request and response bodies: JSON, YAML, Kubernetes protobuf.

pub(crate) mod duration;
mod json;
pub(crate) mod protobuf;
mod wire;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::constants::BODY_BYTES_MAX;
use crate::gvk::GroupVersionKind;
use crate::meta;
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

/// The media type of a header's value, without its parameters.
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Decodes a body. `content_type` is the header's value (parameters allowed, empty means JSON); apiVersion
/// and kind are taken from `default` where the body leaves them out.
///
/// # Errors
/// 400 for a body that is not of that form or no object, 413 over the bound, 415 for another content type.
pub fn decode(content_type: &str, body: &[u8], default: Option<&GroupVersionKind>) -> ApiResult<Decoded> {
    if body.len() > BODY_BYTES_MAX {
        return Err(ApiStatus::too_large(&format!("limit is {BODY_BYTES_MAX}")));
    }
    let mut decoded = match media_type(content_type) {
        "" | JSON => json::decode(body)?,
        YAML => json::decode_yaml(body)?,
        PROTOBUF => Decoded { object: protobuf::decode(body, default)?, duplicates: Vec::new() },
        _ => return Err(ApiStatus::unsupported_media_type(&[JSON, YAML, PROTOBUF])),
    };
    let Some(map) = decoded.object.as_object_mut() else {
        return Err(ApiStatus::bad_request(
            "couldn't get version/kind; json parse error: json: cannot unmarshal into Go value of type struct",
        ));
    };
    if let Some(default) = default {
        let blank = |value: Option<&Value>| value.is_none_or(|v| v.is_null() || v == "");
        if blank(map.get("apiVersion")) {
            map.insert("apiVersion".into(), Value::from(default.api_version()));
        }
        if blank(map.get("kind")) {
            map.insert("kind".into(), Value::from(default.kind.as_str()));
        }
    }
    Ok(decoded)
}

/// Decodes JSON that is no API object, such as a patch.
///
/// # Errors
/// 400 for malformed input, 413 over the bound.
pub fn decode_json(body: &[u8]) -> ApiResult<Decoded> {
    if body.len() > BODY_BYTES_MAX {
        return Err(ApiStatus::too_large(&format!("limit is {BODY_BYTES_MAX}")));
    }
    json::decode(body)
}

/// Decodes YAML (or JSON), the body of an apply patch.
///
/// # Errors
/// 400 for malformed input, 413 over the bound.
pub fn decode_yaml(body: &[u8]) -> ApiResult<Decoded> {
    if body.len() > BODY_BYTES_MAX {
        return Err(ApiStatus::too_large(&format!("limit is {BODY_BYTES_MAX}")));
    }
    // JSON is the common case, and faster to read as such.
    if body.trim_ascii_start().starts_with(b"{") {
        if let Ok(decoded) = json::decode(body) {
            return Ok(decoded);
        }
    }
    json::decode_yaml(body)
}

/// Checks that a body is of the kind that its path serves.
///
/// # Errors
/// 400 with the texts of the reference.
pub fn check_gvk(object: &Value, expected: &GroupVersionKind) -> ApiResult<()> {
    let given = meta::gvk(object);
    if given == *expected {
        return Ok(());
    }
    if given.kind.is_empty() || given.version.is_empty() {
        let what = if given.kind.is_empty() { "Kind" } else { "apiVersion" };
        return Err(ApiStatus::bad_request(format!("Object '{what}' is missing")));
    }
    if given.kind == expected.kind {
        return Err(ApiStatus::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            given.api_version(),
            expected.api_version()
        )));
    }
    Err(ApiStatus::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: converting ({}.{}) to ({}.{}): unknown conversion",
        given.kind, given.version, expected.kind, given.version, given.kind, expected.version, expected.kind
    )))
}

/// Encodes an object in Kubernetes protobuf, envelope included.
///
/// # Errors
/// 406 if the kind has no protobuf form.
pub fn encode_protobuf(object: &Value) -> ApiResult<Vec<u8>> {
    protobuf::encode(object)
}

/// Encodes an object as YAML.
///
/// # Errors
/// 500 if it cannot be written.
pub fn encode_yaml(object: &Value) -> ApiResult<String> {
    serde_yaml_ng::to_string(object).map_err(|error| ApiStatus::internal(error.to_string()))
}
