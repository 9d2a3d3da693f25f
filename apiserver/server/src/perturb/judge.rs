use std::sync::Arc;

use futures::StreamExt;
use keelstone_registry::{ListParams, ResourceStore};
use keelstone_storage::{StoredObject, WatchEvent};
use tokio::time::timeout;

use super::{Knowledge, Perturbed, View, WriteRecord};
use crate::{constants::JUDGE_WAIT, context::Context, state::State};

impl Perturbed {
    /// Records a write of the client, once it is known what the client had not been sent: what a watch of each
    /// of its views would have delivered between its place and the write.
    pub fn wrote(&self, state: &Arc<State>, context: &Context, resource: &str, object: &StoredObject) {
        let mut record = WriteRecord {
            actor: context.user.name.clone(),
            verb: context.info.verb.clone(),
            resource: resource.to_owned(),
            key: object.key().to_owned(),
            revision: object.revision(),
            frontiers: self.knowledge.frontiers().map(|(view, revision)| (view.clone(), revision)).collect(),
            missed: Vec::new(),
            missed_count: 0,
            own_object_missed: false,
            history_gone: false,
        };
        self.perturber.learn(&record.actor, |knowledge| knowledge.saw(resource, object.key(), object.revision()));
        let (perturber, state, knowledge) = (self.perturber.clone(), state.clone(), self.knowledge.clone());
        state.env.clone().spawn(async move {
            for (view, revision) in record.frontiers.clone() {
                let Some(store) = find(&state, &view.resource) else { continue };
                miss(&store, &view, revision, &knowledge, &mut record).await;
            }
            if record.is_stale() {
                tracing::info!(
                    actor = record.actor,
                    verb = record.verb,
                    resource = record.resource,
                    key = record.key,
                    revision = record.revision,
                    missed = record.missed_count,
                    own_object = record.own_object_missed,
                    "a write on stale knowledge"
                );
            }
            perturber.record(record);
        });
    }
}

fn find(state: &State, resource: &str) -> Option<Arc<ResourceStore>> {
    let is_it = |store: &&Arc<ResourceStore>| store.info().group_resource().to_string() == resource;
    state.registry.iter().iter().find(is_it).cloned()
}

/// Adds what the view missed after `revision` and before the write.
async fn miss(store: &ResourceStore, view: &View, revision: i64, knowledge: &Knowledge, record: &mut WriteRecord) {
    if revision + 1 >= record.revision {
        return;
    }
    let params = |version: i64| ListParams {
        resource_version: version.to_string(),
        label_selector: view.label_selector.clone(),
        field_selector: view.field_selector.clone(),
        ..ListParams::default()
    };
    // Whatever answers this has everything up to the write.
    let fresh = ListParams { limit: 1, resource_version_match: "NotOlderThan".into(), ..params(record.revision) };
    let reached = store.list(&view.namespace, &fresh).await;
    let opened = match reached {
        Ok(_) => store.watch(&view.namespace, &params(revision)).await,
        Err(error) => Err(error),
    };
    let Ok(mut events) = opened else {
        record.history_gone = true;
        return;
    };
    // Everything is there: what does not come at once does not come.
    while let Ok(Some(event)) = timeout(JUDGE_WAIT, events.next()).await {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                if object.revision() >= record.revision {
                    return;
                }
                if !knowledge.knows(&view.resource, object.key(), object.revision()) {
                    record.miss(&view.resource, object.key(), object.revision());
                }
            }
            WatchEvent::Bookmark { .. } => {}
            WatchEvent::Error(_) => {
                record.history_gone = true;
                return;
            }
        }
    }
}
