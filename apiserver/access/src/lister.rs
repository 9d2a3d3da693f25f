use std::{ops::Deref, sync::Arc};

use async_trait::async_trait;
use keelstone_machinery::status::ApiResult;
use serde_json::Value;

/// An object in memory, shared with the cache that holds it.
pub type Listed = Arc<dyn Deref<Target = Value> + Send + Sync>;

/// What access decisions read of the cluster. [`Lister::get`] and [`Lister::list`] answer from memory, so
/// that authentication and authorization go on while the store has no quorum.
#[async_trait]
pub trait Lister: Send + Sync + 'static {
    /// One object as the watch cache has it. `namespace` is empty for cluster-scoped resources.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Listed>;

    /// All objects of one namespace, or of all if `namespace` is `None`, in the order of their keys.
    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Listed>;

    /// One object, read from the store if the cache does not have it: what was written a moment ago through
    /// another API server is then seen.
    ///
    /// # Errors
    /// 503 or 504 if the store cannot be asked.
    async fn get_fresh(&self, group: &str, resource: &str, namespace: &str, name: &str) -> ApiResult<Option<Listed>> {
        Ok(self.get(group, resource, namespace, name))
    }
}

/// A lister over a fixed set of objects, for tests.
#[derive(Default)]
pub struct FixedLister {
    objects: std::collections::BTreeMap<(String, String, String, String), Arc<Value>>,
}

impl FixedLister {
    /// Adds an object under its metadata's namespace and name.
    pub fn add(&mut self, group: &str, resource: &str, object: Value) {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let key = (group.to_owned(), resource.to_owned(), text("namespace"), text("name"));
        self.objects.insert(key, Arc::new(object));
    }
}

impl Lister for FixedLister {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Listed> {
        self.objects
            .get(&(group.into(), resource.into(), namespace.into(), name.into()))
            .cloned()
            .map(|o| Arc::new(o) as Listed)
    }

    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Listed> {
        let wanted = |key: &(String, String, String, String)| {
            key.0 == group && key.1 == resource && namespace.is_none_or(|n| key.2 == n)
        };
        self.objects
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(_, object)| Arc::new(object.clone()) as Listed)
            .collect()
    }
}
