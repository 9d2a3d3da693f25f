//! OpenAPI v2 and v3 documents of the served resources.

use serde_json::Value;

use crate::resource_info::ResourceInfo;

/// The v2 document, as JSON.
pub fn v2_json(resources: &[&ResourceInfo]) -> Value {
    let _ = resources;
    Value::Null
}

/// The v2 document as `application/com.github.proto-openapi.spec.v2@v1.0+protobuf`.
pub fn v2_protobuf(resources: &[&ResourceInfo]) -> Vec<u8> {
    let _ = resources;
    Vec::new()
}

/// The document at `/openapi/v3`: one path with a hash for each group version.
pub fn v3_index(resources: &[&ResourceInfo]) -> Value {
    let _ = resources;
    Value::Null
}

/// The v3 document of one group version as JSON; `None` if nothing of it is served.
pub fn v3_document(resources: &[&ResourceInfo], group: &str, version: &str) -> Option<Value> {
    let _ = (resources, group, version);
    None
}
