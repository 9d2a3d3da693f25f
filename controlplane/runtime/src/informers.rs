use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use k8s_openapi::Resource;
use keelstone_client::{Api, Client, DynamicObject, Informer, InformerOptions, Object, Store};
use keelstone_machinery::gvk::GroupVersionResource;

/// One informer for each resource, shared by all who need it. Cheap to clone; informers stop when the last
/// clone is gone.
#[derive(Clone)]
pub struct SharedInformers {
    client: Client,
    informers: Arc<Mutex<BTreeMap<Key, Box<dyn AnyInformer>>>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    resource: GroupVersionResource,
    kind: TypeId,
}

trait AnyInformer: Send {
    fn as_any(&self) -> &dyn Any;
    fn wait_synced(&self) -> BoxFuture<'static, ()>;
}

impl<T: Object> AnyInformer for Informer<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn wait_synced(&self) -> BoxFuture<'static, ()> {
        let store = self.store().clone();
        Box::pin(async move { store.wait_synced().await })
    }
}

impl SharedInformers {
    pub fn new(client: &Client) -> Self {
        Self { client: client.unguarded(), informers: Arc::default() }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The store of all objects of a type, in all namespaces; the first call starts its informer.
    pub fn store<T: Object + Resource>(&self) -> Store<T> {
        self.follow(self.client.resource())
    }

    /// The store of all objects of any resource, as JSON.
    pub fn dynamic(&self, resource: &GroupVersionResource) -> Store<DynamicObject> {
        self.follow(self.client.dynamic(resource))
    }

    /// Stops the informer of a resource that is no longer served. Stores handed out stay as they are.
    pub fn stop_dynamic(&self, resource: &GroupVersionResource) {
        let key = Key { resource: resource.clone(), kind: TypeId::of::<DynamicObject>() };
        self.informers.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    fn follow<T: Object>(&self, api: Api<T>) -> Store<T> {
        let key = Key { resource: api.gvr().clone(), kind: TypeId::of::<T>() };
        let mut informers = self.informers.lock().unwrap_or_else(PoisonError::into_inner);
        let informer =
            informers.entry(key).or_insert_with(|| Box::new(Informer::spawn(api, InformerOptions::default())));
        let informer = informer.as_any().downcast_ref::<Informer<T>>().expect("the key holds the type");
        informer.store().clone()
    }

    /// Waits until all informers that were started have synced.
    pub async fn wait_synced(&self) {
        let waits: Vec<_> = {
            let informers = self.informers.lock().unwrap_or_else(PoisonError::into_inner);
            informers.values().map(|informer| informer.wait_synced()).collect()
        };
        futures::future::join_all(waits).await;
    }
}
