use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde_json::Value;

/// An object as read from the store: immutable, shared, with its JSON form made at most once.
#[derive(Clone)]
pub struct StoredObject(Arc<Inner>);

struct Inner {
    key: Box<str>,
    revision: i64,
    value: Value,
    json: OnceLock<Bytes>,
}

impl StoredObject {
    /// `key` is relative to the resource: `namespace/name`, or `name` for a resource of the cluster.
    /// Sets `metadata.resourceVersion` to `revision`; 0 (a dry run's new object) is none.
    pub fn new(key: &str, revision: i64, mut value: Value) -> Self {
        set_resource_version(&mut value, revision);
        Self(Arc::new(Inner { key: key.into(), revision, value, json: OnceLock::new() }))
    }

    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// The store revision of the last write, which is the object's resourceVersion.
    pub fn revision(&self) -> i64 {
        self.0.revision
    }

    pub fn value(&self) -> &Value {
        &self.0.value
    }

    /// The JSON form: encoded at the first call, shared by all that follow.
    pub fn json(&self) -> &Bytes {
        self.0.json.get_or_init(|| encode(&self.0.value))
    }

    /// The value, copied only if it is shared.
    pub fn into_value(self) -> Value {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => inner.value,
            Err(shared) => shared.value.clone(),
        }
    }

    /// The same object under another resourceVersion: how a deletion shows the last state.
    pub fn at_revision(&self, revision: i64) -> Self {
        Self::new(self.key(), revision, self.0.value.clone())
    }
}

impl fmt::Debug for StoredObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.0.key, self.0.revision)
    }
}

fn encode(value: &Value) -> Bytes {
    // A `Value` has string keys only and no non-finite numbers, so encoding cannot fail.
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}

fn set_resource_version(value: &mut Value, revision: i64) {
    if let Some(object) = value.as_object_mut() {
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Default::default()));
        if let Some(metadata) = metadata.as_object_mut() {
            if revision == 0 {
                metadata.remove("resourceVersion");
            } else {
                metadata.insert("resourceVersion".into(), Value::String(revision.to_string()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_resource_version_is_the_revision_and_the_json_is_made_once() {
        let object = StoredObject::new("ns/a", 7, json!({"metadata": {"name": "a"}}));
        assert_eq!(object.value()["metadata"]["resourceVersion"], "7");
        assert_eq!(object.json().as_ptr(), object.clone().json().as_ptr());
        assert_eq!(object.at_revision(9).value()["metadata"]["resourceVersion"], "9");
        assert_eq!(object.value()["metadata"]["resourceVersion"], "7");
    }
}
