use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use keelstone_client::{DynamicObject, Index, Object, Store};
use keelstone_machinery::gvk::GroupVersionResource;

use crate::common::discovery::ServedResource;

const BY_OWNER: &str = "owner";
const BY_UID: &str = "uid";

/// One kind of object that is followed.
#[derive(Clone)]
pub(super) struct Kind {
    pub resource: ServedResource,
    pub store: Store<DynamicObject>,
}

/// Who owns whom, as the caches show it: all objects of all kinds, found by uid and by their owners' uids.
/// Owners that no cache has are the ones to be asked for.
#[derive(Default)]
pub(super) struct Graph {
    kinds: Mutex<BTreeMap<GroupVersionResource, Kind>>,
}

impl Graph {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupVersionResource, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, resource: ServedResource, store: Store<DynamicObject>) -> Kind {
        store.add_index(Index::owner());
        store.add_index(Index::new(BY_UID, |object: &DynamicObject| vec![object.uid().to_owned()]));
        let kind = Kind { resource, store };
        self.lock().insert(kind.resource.gvr.clone(), kind.clone());
        kind
    }

    pub fn remove(&self, resource: &GroupVersionResource) {
        self.lock().remove(resource);
    }

    pub fn kinds(&self) -> Vec<Kind> {
        self.lock().values().cloned().collect()
    }

    pub fn kind(&self, resource: &GroupVersionResource) -> Option<Kind> {
        self.lock().get(resource).cloned()
    }

    /// The kind that an owner reference names.
    pub fn named(&self, group: &str, kind: &str) -> Option<ServedResource> {
        let kinds = self.lock();
        let mut named = kinds.values().filter(|k| k.resource.gvr.group == group && k.resource.kind == kind);
        named.next().map(|kind| kind.resource.clone())
    }

    pub fn find(&self, uid: &str) -> Option<(Kind, Arc<DynamicObject>)> {
        self.kinds().into_iter().find_map(|kind| {
            let object = kind.store.by_index(BY_UID, uid).into_iter().next()?;
            Some((kind, object))
        })
    }

    pub fn dependents(&self, uid: &str) -> Vec<(Kind, Arc<DynamicObject>)> {
        let of = |kind: Kind| {
            let objects = kind.store.by_index(BY_OWNER, uid);
            objects.into_iter().map(move |object| (kind.clone(), object))
        };
        self.kinds().into_iter().flat_map(of).collect()
    }
}
