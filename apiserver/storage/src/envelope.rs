//! The stored form of an object: a magic, a format version and the JSON without resourceVersion.
//!
//! The version is of the envelope, not of the API: an object says its own apiVersion and kind.

use bytes::Bytes;
use serde_json::Value;

const MAGIC: &[u8] = b"kso";
const VERSION_JSON: u8 = 1;

/// Why stored bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("stored object has no known envelope")]
    Magic,
    #[error("stored object has envelope version {0}, which this server does not know")]
    Version(u8),
    #[error("stored object is not JSON: {0}")]
    Json(String),
}

/// The bytes to store. The resourceVersion is left out: the store's revision says it.
pub fn encode(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(MAGIC);
    out.push(VERSION_JSON);
    let without;
    let object = if object.pointer("/metadata/resourceVersion").is_some() {
        without = without_resource_version(object);
        &without
    } else {
        object
    };
    // Writing a `Value` into memory cannot fail.
    let _ = serde_json::to_writer(&mut out, object);
    Bytes::from(out)
}

pub fn decode(bytes: &[u8]) -> Result<Value, EnvelopeError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(EnvelopeError::Magic)?;
    match rest.split_first() {
        Some((&VERSION_JSON, json)) => serde_json::from_slice(json).map_err(|e| EnvelopeError::Json(e.to_string())),
        Some((&version, _)) => Err(EnvelopeError::Version(version)),
        None => Err(EnvelopeError::Magic),
    }
}

/// True if both are the same but for the resourceVersion.
pub fn same_content(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return a == b;
    };
    let strip = |v: Option<&Value>| -> Option<serde_json::Map<String, Value>> {
        let mut map = v?.as_object()?.clone();
        map.remove("resourceVersion");
        Some(map)
    };
    a.len() == b.len()
        && a.iter().all(|(key, value)| {
            if key == "metadata" {
                strip(Some(value)) == strip(b.get(key))
            } else {
                b.get(key) == Some(value)
            }
        })
}

fn without_resource_version(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_encoded_is_decoded_without_its_resource_version() {
        let object = json!({"kind": "Pod", "metadata": {"name": "a", "resourceVersion": "5"}});
        let bytes = encode(&object);
        assert_eq!(&bytes[..4], b"kso\x01");
        assert_eq!(decode(&bytes).unwrap(), json!({"kind": "Pod", "metadata": {"name": "a"}}));
    }

    #[test]
    fn unknown_bytes_are_refused_with_a_reason() {
        assert!(matches!(decode(b"{}"), Err(EnvelopeError::Magic)));
        assert!(matches!(decode(b"kso"), Err(EnvelopeError::Magic)));
        assert!(matches!(decode(b"kso\x09{}"), Err(EnvelopeError::Version(9))));
        assert!(matches!(decode(b"kso\x01{"), Err(EnvelopeError::Json(_))));
    }

    #[test]
    fn content_is_compared_without_the_resource_version() {
        let a = json!({"metadata": {"name": "a", "resourceVersion": "5"}, "spec": 1});
        assert!(same_content(&a, &json!({"metadata": {"name": "a"}, "spec": 1})));
        assert!(!same_content(&a, &json!({"metadata": {"name": "b"}, "spec": 1})));
        assert!(!same_content(&a, &json!({"metadata": {"name": "a"}, "spec": 1, "status": 2})));
    }
}
