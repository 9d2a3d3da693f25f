use std::sync::{Mutex, PoisonError};

use indexmap::IndexSet;
use keelstone_client::{
    Client, ClientResult, DeleteOptions, DynamicApi, DynamicObject, ListOptions, Object, Patch, PatchOptions,
};
use keelstone_env::bug::{self, Bug};
use keelstone_machinery::gvk::GroupVersionResource;
use keelstone_runtime::{ReconcileError, WorkQueue};
use serde_json::{json, Value};

use super::{
    graph::{Graph, Kind},
    plan::{self, Decision, Owner, OwnerState, FOREGROUND, ORPHAN},
};
use crate::{common::discovery::ServedResource, constants::ABSENT_OWNERS_MAX};

/// Looks at single objects and acts on what live reads say.
pub(super) struct Collector {
    pub client: Client,
    pub graph: Graph,
    pub queue: WorkQueue,
    /// Owners, with where they were looked for, that are certainly gone. A uid never comes back.
    pub absent: Mutex<IndexSet<(String, Owner)>>,
}

/// `group/version/resource|namespace/name`.
pub(super) fn item_key(resource: &GroupVersionResource, object: &str) -> String {
    format!("{}/{}/{}|{object}", resource.group, resource.version, resource.resource)
}

fn parse_key(key: &str) -> Option<(GroupVersionResource, &str)> {
    let (resource, object) = key.split_once('|')?;
    let mut parts = resource.splitn(3, '/');
    let gvr = GroupVersionResource::new(parts.next()?, parts.next()?, parts.next()?);
    Some((gvr, object))
}

impl Collector {
    pub fn enqueue(&self, kind: &Kind, object: &DynamicObject) {
        self.queue.add(item_key(&kind.resource.gvr, &object.key()));
    }

    /// Looks at one object and does what is due.
    pub async fn collect(&self, key: &str) -> Result<(), ReconcileError> {
        let Some((resource, object_key)) = parse_key(key) else { return Ok(()) };
        let Some(kind) = self.graph.kind(&resource) else { return Ok(()) };
        let (namespace, name) = keelstone_client::split_key(object_key);
        let api = self.client.dynamic(&resource).within(namespace);
        let Some(object) = api.get_opt(name).await? else { return Ok(()) };
        if object.is_terminating() {
            if plan::has_finalizer(&object, ORPHAN) {
                return self.orphan(&api, &object).await;
            }
            if plan::has_finalizer(&object, FOREGROUND) {
                return self.await_dependents(&api, &object).await;
            }
            return Ok(());
        }
        self.judge(&api, &kind, &object).await
    }

    async fn judge(&self, api: &DynamicApi, kind: &Kind, object: &DynamicObject) -> Result<(), ReconcileError> {
        let mut owners = Vec::new();
        for owner in plan::owners(object) {
            let state = self.owner_state(object, &owner).await?;
            owners.push((owner, state));
        }
        let dependents = self.graph.dependents(object.uid());
        let waits = dependents.iter().any(|(_, dependent)| plan::waits_for_dependents(dependent));
        match plan::decide(object, &owners, !dependents.is_empty(), waits) {
            Decision::Keep => Ok(()),
            Decision::Disown(uids) => Ok(self.disown(api, object, &uids).await?),
            Decision::Delete { propagation, unblock } => {
                let mut version = object.resource_version().to_owned();
                if unblock {
                    version = self.unblock(api, object).await?;
                }
                tracing::debug!(
                    resource = %kind.resource.gvr.group_resource(), object = object.key(), uid = object.uid(),
                    "deleting an object whose owners are gone"
                );
                // With the version that was judged: whoever adopts it meanwhile keeps it.
                let options = DeleteOptions { resource_version: Some(version), ..DeleteOptions::uid(object.uid()) };
                match api.delete(object.name(), &options.propagation(propagation)).await {
                    Err(error) if !error.is_not_found() => Err(error.into()),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Asks the API, past all caches, for an owner.
    async fn owner_state(&self, object: &DynamicObject, owner: &Owner) -> Result<OwnerState, ReconcileError> {
        let Some(resource) = self.graph.named(&owner.group, &owner.kind) else {
            // Perhaps it is served soon (again). As long as nothing is known of it, nothing is deleted.
            let text = format!("no resource is known for the owner {} {}/{}", owner.group, owner.kind, owner.name);
            return Err(ReconcileError::Other(text));
        };
        if resource.namespaced && object.namespace().is_empty() {
            tracing::debug!(object = object.key(), owner = owner.name, "an owner in a namespace cannot own it");
            return Ok(OwnerState::Solid);
        }
        if bug::planted(Bug::CollectorColdCache) && self.graph.find(&owner.uid).is_none() {
            return Ok(OwnerState::Gone);
        }
        let namespace = if resource.namespaced { object.namespace() } else { "" };
        let place = (namespace.to_owned(), owner.clone());
        if self.absent.lock().unwrap_or_else(PoisonError::into_inner).contains(&place) {
            return Ok(OwnerState::Gone);
        }
        let live = self.client.dynamic(&resource.gvr).within(namespace).get_opt(&owner.name).await?;
        let Some(live) = live.filter(|live| live.uid() == owner.uid) else {
            let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
            absent.insert(place);
            if absent.len() > ABSENT_OWNERS_MAX {
                absent.shift_remove_index(0);
            }
            return Ok(OwnerState::Gone);
        };
        Ok(if plan::waits_for_dependents(&live) { OwnerState::Waiting } else { OwnerState::Solid })
    }

    /// Takes references to owners away from an object that is still as it was seen.
    async fn disown(&self, api: &DynamicApi, object: &DynamicObject, uids: &[String]) -> ClientResult<()> {
        let references = object.0["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let gone = |reference: &Value| uids.iter().any(|uid| reference["uid"] == uid.as_str());
        let kept: Vec<Value> = references.into_iter().filter(|reference| !gone(reference)).collect();
        let kept = if kept.is_empty() { Value::Null } else { Value::Array(kept) };
        self.patch(api, object, "ownerReferences", kept).await.map(drop)
    }

    /// Lets an object no longer block the deletion of its owners; returns its new version.
    async fn unblock(&self, api: &DynamicApi, object: &DynamicObject) -> ClientResult<String> {
        let mut references = object.0["metadata"]["ownerReferences"].clone();
        for reference in references.as_array_mut().into_iter().flatten() {
            reference["blockOwnerDeletion"] = Value::Bool(false);
        }
        let patched = self.patch(api, object, "ownerReferences", references).await?;
        Ok(patched.map_or_else(|| object.resource_version().to_owned(), |p| p.resource_version().to_owned()))
    }

    async fn remove_finalizer(
        &self,
        api: &DynamicApi,
        object: &DynamicObject,
        finalizer: &str,
    ) -> Result<(), ReconcileError> {
        let mut kept = object.0["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        kept.retain(|other| other != finalizer);
        let kept = if kept.is_empty() { Value::Null } else { Value::Array(kept) };
        self.patch(api, object, "finalizers", kept).await?;
        Ok(())
    }

    /// Changes a field of the metadata of an object that is still as it was seen; `None` if it is gone.
    async fn patch(
        &self,
        api: &DynamicApi,
        object: &DynamicObject,
        field: &str,
        value: Value,
    ) -> ClientResult<Option<DynamicObject>> {
        let patch = Patch::Merge(json!({"metadata": {
            "uid": object.uid(), "resourceVersion": object.resource_version(), field: value,
        }}));
        match api.patch(object.name(), &patch, &PatchOptions::default()).await {
            Ok(patched) => Ok(Some(patched)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An object in foreground deletion goes when no dependent blocks it any more.
    async fn await_dependents(&self, api: &DynamicApi, object: &DynamicObject) -> Result<(), ReconcileError> {
        let blocks = |dependent: &DynamicObject| {
            plan::owners(dependent).iter().any(|owner| owner.uid == object.uid() && owner.blocks)
        };
        let dependents = self.graph.dependents(object.uid());
        dependents.iter().for_each(|(kind, dependent)| self.enqueue(kind, dependent));
        if dependents.iter().any(|(_, dependent)| blocks(dependent)) {
            // The end of each of them brings this object back here.
            return Ok(());
        }
        let live = self.live_dependents(object).await?;
        if live.iter().any(|(_, dependent)| blocks(dependent)) {
            return Err(ReconcileError::Other("the cache does not show all dependents yet".into()));
        }
        self.remove_finalizer(api, object, FOREGROUND).await
    }

    /// Takes the references to an object from all its dependents, then lets it go.
    async fn orphan(&self, api: &DynamicApi, object: &DynamicObject) -> Result<(), ReconcileError> {
        let uids = [object.uid().to_owned()];
        for (resource, dependent) in self.live_dependents(object).await? {
            let of = self.client.dynamic(&resource.gvr).within(dependent.namespace());
            self.disown(&of, &dependent, &uids).await?;
        }
        self.remove_finalizer(api, object, ORPHAN).await
    }

    /// All dependents, read past the caches: with a missing one the owner would vanish too early.
    async fn live_dependents(
        &self,
        object: &DynamicObject,
    ) -> Result<Vec<(ServedResource, DynamicObject)>, ReconcileError> {
        let mut found = Vec::new();
        for kind in self.graph.kinds() {
            // A namespaced owner's dependents are in its namespace.
            if !object.namespace().is_empty() && !kind.resource.namespaced {
                continue;
            }
            let api = self.client.dynamic(&kind.resource.gvr).within(object.namespace());
            let list = match api.list_all(&ListOptions::default()).await {
                // No longer served.
                Err(error) if matches!(error.code(), 404 | 405) => continue,
                list => list?,
            };
            let owned = list.items.into_iter().filter(|item| item.owner_uids().contains(&object.uid()));
            found.extend(owned.map(|item| (kind.resource.clone(), item)));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_back() {
        for (group, object) in [("", "ns/name"), ("apps", "name")] {
            let gvr = GroupVersionResource::new(group, "v1", "things");
            assert_eq!(parse_key(&item_key(&gvr, object)), Some((gvr, object)));
        }
        assert_eq!(parse_key("nonsense"), None);
    }
}
