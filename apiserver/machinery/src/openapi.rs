//! OpenAPI v2 and v3 documents of the served resources. They are large and only change with the resources:
//! callers make them once and keep them.

mod docs;
mod gnostic;
mod paths;
mod schemas;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Write;

use prost::Message;
use serde_json::{json, Map, Value};
use sha2::{Digest, Sha256};

use crate::gvk::api_version;
use crate::resource_info::ResourceInfo;

use schemas::{Schemas, Version};

/// The media type under which `v2_protobuf` is served.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.37.0"})
}

/// The v2 document, as JSON.
pub fn v2_json(resources: &[&ResourceInfo]) -> Value {
    let (paths, schemas) = parts(resources, Version::V2);
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": schemas})
}

/// The v2 document in protobuf, served as `V2_PROTOBUF`.
pub fn v2_protobuf(resources: &[&ResourceInfo]) -> Vec<u8> {
    gnostic::document(&v2_json(resources)).encode_to_vec()
}

fn parts(resources: &[&ResourceInfo], version: Version) -> (Value, Value) {
    let mut schemas = Schemas::new(version);
    let mut paths = Map::new();
    paths::add(resources, version, &mut schemas, &mut paths);
    (Value::Object(paths), schemas.into_value())
}

/// The path of a group version below `/openapi/v3`: `api/v1`, `apis/apps/v1`.
pub fn v3_path(group: &str, version: &str) -> String {
    let root = if group.is_empty() { "api" } else { "apis" };
    format!("{root}/{}", api_version(group, version))
}

/// The document at `/openapi/v3`: for each group version the path of its document, with a hash of it.
pub fn v3_index(resources: &[&ResourceInfo]) -> Value {
    let group_versions: BTreeSet<(&str, &str)> = resources.iter().map(|info| (info.group, info.version)).collect();
    let mut paths = Map::new();
    for (group, version) in group_versions {
        if let Some(document) = v3_document(resources, group, version) {
            let path = v3_path(group, version);
            let url = format!("/openapi/v3/{path}?hash={}", v3_hash(&document));
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
    }
    json!({ "paths": paths })
}

/// The hash of a v3 document that its address in the index carries.
pub fn v3_hash(document: &Value) -> String {
    let digest = Sha256::digest(document.to_string().as_bytes());
    digest.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02X}");
        out
    })
}

/// The v3 document of one group version as JSON; `None` if nothing of it is served.
pub fn v3_document(resources: &[&ResourceInfo], group: &str, version: &str) -> Option<Value> {
    let own: Vec<&ResourceInfo> =
        resources.iter().copied().filter(|info| info.group == group && info.version == version).collect();
    if own.is_empty() {
        return None;
    }
    let (paths, schemas) = parts(&own, Version::V3);
    Some(json!({"openapi": "3.0.0", "info": info(), "paths": paths, "components": {"schemas": schemas}}))
}
