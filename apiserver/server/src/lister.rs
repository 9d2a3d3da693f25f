use std::{ops::Deref, sync::Arc};

use async_trait::async_trait;
use futures::FutureExt;
use keelstone_access::{Listed, Lister};
use keelstone_machinery::status::ApiResult;
use keelstone_registry::Registry;
use keelstone_storage::{Freshness, ListOptions, Storage, StoredObject};
use serde_json::Value;

/// The access crate's view of the cluster: the watch caches.
pub struct CacheLister {
    registry: Arc<Registry>,
}

struct Shared(StoredObject);

impl Deref for Shared {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.0.value()
    }
}

fn listed(object: StoredObject) -> Listed {
    Arc::new(Shared(object))
}

fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

impl CacheLister {
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    fn storage(&self, group: &str, resource: &str) -> Option<Arc<dyn Storage>> {
        // Every group that access reads is served in version v1.
        Some(self.registry.get(group, "v1", resource)?.storage().clone())
    }
}

#[async_trait]
impl Lister for CacheLister {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Listed> {
        let storage = self.storage(group, resource)?;
        // A filled cache answers at once; one that is not filled yet would ask the store, which is not waited for.
        let found = storage.get(&key(namespace, name), Freshness::Any).now_or_never()?;
        found.ok().map(listed)
    }

    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Listed> {
        let Some(storage) = self.storage(group, resource) else {
            return Vec::new();
        };
        let prefix = namespace.map(|n| format!("{n}/")).unwrap_or_default();
        let options = ListOptions { freshness: Freshness::Any, ..ListOptions::default() };
        match storage.list(&prefix, options).now_or_never() {
            Some(Ok(page)) => page.objects.into_iter().map(listed).collect(),
            _ => Vec::new(),
        }
    }

    async fn get_fresh(&self, group: &str, resource: &str, namespace: &str, name: &str) -> ApiResult<Option<Listed>> {
        let Some(storage) = self.storage(group, resource) else {
            return Ok(None);
        };
        match storage.get(&key(namespace, name), Freshness::Latest).await {
            Ok(found) => Ok(Some(listed(found))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
