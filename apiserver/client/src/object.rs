use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use serde_json::Value;

/// What clients, stores and controllers need of an object's metadata. Every type of k8s-openapi that has
/// metadata implements it, and so does [`DynamicObject`].
pub trait Object: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    fn name(&self) -> &str;
    /// Empty for cluster-scoped objects.
    fn namespace(&self) -> &str;
    fn uid(&self) -> &str;
    fn resource_version(&self) -> &str;
    fn label(&self, key: &str) -> Option<&str>;
    fn annotation(&self, key: &str) -> Option<&str>;
    /// The uids of all owners.
    fn owner_uids(&self) -> Vec<&str>;
    /// The uid of the owner that is its controller.
    fn controller_uid(&self) -> Option<&str>;
    /// Deletion was asked for (metadata.deletionTimestamp is set).
    fn is_terminating(&self) -> bool;

    /// Notes what the object is, where its list said so once for all. Typed objects know it anyway.
    fn set_type(&mut self, _api_version: &str, _kind: &str) {}

    /// `namespace/name`, or `name` for cluster-scoped objects.
    fn key(&self) -> String {
        object_key(self.namespace(), self.name())
    }
}

/// `namespace/name`, or `name` if the namespace is empty.
pub fn object_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

/// Splits a key made by [`object_key`] into namespace (empty if there is none) and name.
pub fn split_key(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

impl<T> Object for T
where
    T: k8s_openapi::Metadata<Ty = ObjectMeta> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    fn resource_version(&self) -> &str {
        self.metadata().resource_version.as_deref().unwrap_or_default()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.metadata().labels.as_ref()?.get(key).map(String::as_str)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn owner_uids(&self) -> Vec<&str> {
        self.metadata().owner_references.iter().flatten().map(|o| o.uid.as_str()).collect()
    }

    fn controller_uid(&self) -> Option<&str> {
        let owners = self.metadata().owner_references.as_ref()?;
        owners.iter().find(|o| o.controller == Some(true)).map(|o| o.uid.as_str())
    }

    fn is_terminating(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
}

/// An object of any kind, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DynamicObject(pub Value);

impl DynamicObject {
    fn meta(&self) -> &Value {
        &self.0["metadata"]
    }

    fn text(&self, field: &str) -> &str {
        self.meta()[field].as_str().unwrap_or_default()
    }

    fn owners(&self) -> impl Iterator<Item = &Value> {
        self.meta()["ownerReferences"].as_array().into_iter().flatten()
    }
}

impl From<Value> for DynamicObject {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl Object for DynamicObject {
    fn name(&self) -> &str {
        self.text("name")
    }

    fn namespace(&self) -> &str {
        self.text("namespace")
    }

    fn uid(&self) -> &str {
        self.text("uid")
    }

    fn resource_version(&self) -> &str {
        self.text("resourceVersion")
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.meta()["labels"].get(key)?.as_str()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.meta()["annotations"].get(key)?.as_str()
    }

    fn owner_uids(&self) -> Vec<&str> {
        self.owners().filter_map(|o| o["uid"].as_str()).collect()
    }

    fn controller_uid(&self) -> Option<&str> {
        self.owners().find(|o| o["controller"] == Value::Bool(true))?["uid"].as_str()
    }

    fn is_terminating(&self) -> bool {
        self.meta().get("deletionTimestamp").is_some_and(|v| !v.is_null())
    }

    fn set_type(&mut self, api_version: &str, kind: &str) {
        let Some(object) = self.0.as_object_mut() else { return };
        for (field, value) in [("apiVersion", api_version), ("kind", kind)] {
            if !object.contains_key(field) {
                object.insert(field.into(), value.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    #[test]
    fn typed_and_dynamic_agree() {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
            "deletionTimestamp": "2026-01-02T03:04:05Z",
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "o1"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "y", "uid": "o2", "controller": true}]}});
        let typed: Pod = serde_json::from_value(value.clone()).unwrap();
        let dynamic = DynamicObject(value);
        fn facts(o: &impl Object) -> (String, String, String, Option<String>, Vec<String>, Option<String>, bool) {
            (
                o.key(),
                o.uid().into(),
                o.resource_version().into(),
                o.label("a").map(Into::into),
                o.owner_uids().into_iter().map(Into::into).collect(),
                o.controller_uid().map(Into::into),
                o.is_terminating(),
            )
        }
        assert_eq!(facts(&typed), facts(&dynamic));
        assert_eq!(facts(&typed).5.as_deref(), Some("o2"));
        assert_eq!(split_key("n/p"), ("n", "p"));
        assert_eq!(split_key("p"), ("", "p"));
    }
}
