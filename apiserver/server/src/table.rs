//! The Table and PartialObjectMetadata forms.

use keelstone_machinery::{
    status::{ApiResult, ApiStatus},
    ResourceInfo,
};
use keelstone_registry::Resource;
use serde_json::{json, Map, Value};

const META_V1: &str = "meta.k8s.io/v1";

/// What a row of a Table carries beside its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    /// Reads the parameter `includeObject`.
    ///
    /// # Errors
    /// 400 for an unknown value.
    pub fn parse(text: &str) -> ApiResult<Self> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(ApiStatus::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// A Table of some objects. `metadata` is the list's (or the object's resourceVersion).
pub fn table<'a>(
    resource: &dyn Resource,
    objects: impl Iterator<Item = &'a Value>,
    metadata: Value,
    include: IncludeObject,
    with_columns: bool,
    now_unix_s: i64,
) -> Value {
    let columns: Vec<Value> = if with_columns {
        let column = |c: &keelstone_registry::Column| {
            json!({
                "name": c.name, "type": c.kind, "format": c.format, "description": c.description,
                "priority": c.priority,
            })
        };
        resource.columns().iter().map(column).collect()
    } else {
        Vec::new()
    };
    let rows: Vec<Value> = objects.map(|object| row(resource, object, include, now_unix_s)).collect();
    json!({
        "kind": "Table", "apiVersion": META_V1, "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    })
}

fn row(resource: &dyn Resource, object: &Value, include: IncludeObject, now_unix_s: i64) -> Value {
    let mut row = json!({"cells": resource.row(object, now_unix_s)});
    let conditions = resource.row_conditions(object);
    if !conditions.is_empty() {
        row["conditions"] = Value::Array(conditions);
    }
    row["object"] = match include {
        IncludeObject::None => return row,
        IncludeObject::Metadata => partial(object),
        IncludeObject::Object => object.clone(),
    };
    row
}

/// An object's metadata alone.
pub fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": META_V1,
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// A list of objects' metadata.
pub fn partial_list<'a>(objects: impl Iterator<Item = &'a Value>, metadata: Value) -> Value {
    json!({
        "kind": "PartialObjectMetadataList", "apiVersion": META_V1, "metadata": metadata,
        "items": objects.map(partial).collect::<Vec<_>>(),
    })
}

/// A bookmark's object: its kind and a resourceVersion, and the mark that ends the initial state.
pub fn bookmark_object(info: &ResourceInfo, revision: i64, initial_events_end: bool) -> Value {
    let mut metadata = Map::from_iter([
        ("resourceVersion".to_owned(), json!(revision.to_string())),
        ("creationTimestamp".to_owned(), Value::Null),
    ]);
    if initial_events_end {
        metadata.insert("annotations".into(), json!({"k8s.io/initial-events-end": "true"}));
    }
    json!({"kind": info.kind, "apiVersion": info.gvk().api_version(), "metadata": metadata})
}
