use std::collections::BTreeMap;

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use keelstone_client::Object;

use super::{
    names::{HASH_LABEL, NOT_COPIED, REVISION, REVISION_HISTORY},
    sets,
};
use crate::{common::ownership, constants::REVISION_HISTORY_BYTES_MAX};

/// The ReplicaSet for a Deployment's template, still without replicas.
pub fn new_set(deployment: &Deployment) -> ReplicaSet {
    let spec = &deployment.spec;
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = sets::template_hash(&spec.template, collisions);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name())),
            namespace: Some(deployment.namespace().to_owned()),
            labels: Some(labels),
            owner_references: Some(vec![ownership::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    }
}

/// Gives the set of the current template its annotations: those of the Deployment, and its revision, which it
/// takes anew when a rollback makes an old set the current one. True if that changed the set.
pub fn annotate_new(deployment: &Deployment, set: &mut ReplicaSet, revision: i64, exists: bool) -> bool {
    let mut changed = false;
    let empty = BTreeMap::new();
    for (key, value) in deployment.metadata.annotations.as_ref().unwrap_or(&empty) {
        if !NOT_COPIED.contains(&key.as_str()) {
            changed |= sets::annotate(set, key, value);
        }
    }
    let old = set.annotation(REVISION).map(str::to_owned);
    if sets::revision(set) < revision {
        sets::annotate(set, REVISION, &revision.to_string());
        changed = true;
        if let Some(old) = old.filter(|old| !old.is_empty()) {
            let history = set.annotation(REVISION_HISTORY).unwrap_or_default().to_owned();
            sets::annotate(set, REVISION_HISTORY, &append_history(&history, &old));
        }
    }
    if !exists && sets::annotate_replicas(set, deployment) {
        changed = true;
    }
    changed
}

/// `1,4` and `7` make `1,4,7`; the oldest go when that gets too long.
fn append_history(history: &str, revision: &str) -> String {
    let mut all: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
    all.push(revision);
    let mut bytes: usize = all.iter().map(|r| r.len() + 1).sum();
    let mut first = 0;
    while bytes > REVISION_HISTORY_BYTES_MAX + 1 && first + 1 < all.len() {
        bytes -= all[first].len() + 1;
        first += 1;
    }
    all[first..].join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_grows_up_to_its_limit() {
        assert_eq!(append_history("", "1"), "1");
        assert_eq!(append_history("1,4", "7"), "1,4,7");
        let full = vec!["1234"; 400].join(",");
        assert_eq!(full.len(), REVISION_HISTORY_BYTES_MAX - 1);
        let next = append_history(&full, "5678");
        assert!(next.len() <= REVISION_HISTORY_BYTES_MAX && next.ends_with(",5678"));
        assert_eq!(next.split(',').count(), 400);
    }
}
