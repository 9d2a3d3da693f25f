use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use keelstone_env::Env;
use keelstone_machinery::gvk::GroupVersionResource;
use keelstone_storage::{Cacher, StorageConfig};

use crate::{constants::READY_POLL, Resource, ResourceStore};

/// All resources that are served, by group, version and plural.
pub struct Registry {
    env: Env,
    cacher: Arc<Cacher>,
    stores: RwLock<BTreeMap<GroupVersionResource, Arc<ResourceStore>>>,
}

impl Registry {
    pub fn new(env: Env, cacher: Arc<Cacher>, resources: Vec<&'static dyn Resource>) -> Arc<Self> {
        let registry = Self { env, cacher, stores: RwLock::default() };
        for resource in resources {
            registry.add(resource);
        }
        Arc::new(registry)
    }

    /// Serves a resource from now on; begins to fill its cache.
    pub fn add(&self, resource: &'static dyn Resource) -> Arc<ResourceStore> {
        let config =
            StorageConfig::new(resource.info().group_resource()).with_decorate(move |object| resource.default(object));
        let store = Arc::new(ResourceStore::new(self.env.clone(), resource, self.cacher.storage(config)));
        let mut stores = self.stores.write().unwrap_or_else(PoisonError::into_inner);
        stores.insert(resource.info().gvr(), store.clone());
        store
    }

    /// Serves a resource no longer; its objects stay in the store.
    pub fn remove(&self, gvr: &GroupVersionResource) {
        if self.stores.write().unwrap_or_else(PoisonError::into_inner).remove(gvr).is_some() {
            self.cacher.remove(&gvr.group_resource());
        }
    }

    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<Arc<ResourceStore>> {
        let gvr = GroupVersionResource::new(group, version, plural);
        self.stores.read().unwrap_or_else(PoisonError::into_inner).get(&gvr).cloned()
    }

    /// All of them, by group, version and plural.
    pub fn iter(&self) -> Vec<Arc<ResourceStore>> {
        self.stores.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub fn cacher(&self) -> &Arc<Cacher> {
        &self.cacher
    }

    /// The resources whose caches are not filled yet, as `deployments.apps`.
    pub fn unready(&self) -> Vec<String> {
        self.cacher.unfilled().iter().map(ToString::to_string).collect()
    }

    /// Waits until all caches are filled; false if that takes longer than `wait`.
    pub async fn ready(&self, wait: Duration) -> bool {
        let end = self.env.now() + wait;
        while !self.cacher.unfilled().is_empty() {
            if self.env.now() >= end {
                return false;
            }
            tokio::time::sleep(READY_POLL).await;
        }
        true
    }
}
