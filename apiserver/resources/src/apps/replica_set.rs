use keelstone_machinery::{field::Causes, ResourceInfo, SubresourceInfo};
use keelstone_registry::{Column, Resource, WriteContext};
use serde_json::{json, Value};

use super::workload;
use crate::check;
use crate::columns::{self, column, wide};
use crate::json::{at, child, default_if_absent, get_mut, int, set, text};
use crate::pod_spec::defaults;
use crate::strategy;

/// ReplicaSet, apps/v1.
pub struct ReplicaSets;

static INFO: ResourceInfo = ResourceInfo {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: SUBRESOURCES,
};

static SUBRESOURCES: &[SubresourceInfo] = &[strategy::scale(), strategy::status("apps", "v1", "ReplicaSet")];

static COLUMNS: &[Column] = &[
    columns::NAME,
    column("Desired", "integer", "Replicas wanted."),
    column("Current", "integer", "Replicas that exist."),
    column("Ready", "integer", "Replicas that are ready."),
    columns::AGE,
    columns::CONTAINERS,
    columns::IMAGES,
    wide("Selector", "string", "Which pods the set counts as its own."),
];

impl Resource for ReplicaSets {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        default_if_absent(spec, "replicas", 1);
        if let Some(template) = get_mut(spec, "template").filter(|t| t.is_object()) {
            defaults::template(template);
        }
    }

    fn prepare_for_create(&self, _context: &WriteContext, object: &mut Value) {
        set(object, "status", json!({"replicas": 0}));
    }

    fn prepare_for_update(&self, context: &WriteContext, new: &mut Value, old: &Value) {
        strategy::separate_status(context, new, old);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        workload::check_spec(object, causes);
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        check::immutable(causes, "spec.selector", at(new, "spec.selector"), at(old, "spec.selector"));
        if !check::same(at(new, "status"), at(old, "status")) {
            workload::check_status(new, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], causes);
            let (available, ready) = (int(new, "status.availableReplicas"), int(new, "status.readyReplicas"));
            if let Some(available) = available.filter(|a| *a > ready.unwrap_or(0)) {
                let detail = "cannot be greater than readyReplicas";
                check::invalid(causes, "status.availableReplicas", &available.into(), detail);
            }
        }
    }

    fn fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn field(&self, object: &Value, path: &str) -> Option<String> {
        (path == "status.replicas").then(|| int(object, path).unwrap_or(0).to_string())
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        let [containers, images, selector] = workload::wide_cells(object);
        vec![
            text(object, "metadata.name").into(),
            columns::count(object, "spec.replicas"),
            columns::count(object, "status.replicas"),
            columns::count(object, "status.readyReplicas"),
            columns::age(object, now_unix_s),
            containers,
            images,
            // Unlike a Deployment's, an empty selector is shown as none.
            columns::or_none(selector.as_str().unwrap_or("")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cells, update_errors};

    #[test]
    fn row() {
        let object = json!({
            "metadata": {"name": "a"}, "status": {"replicas": 2, "readyReplicas": 1},
            "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]}}},
        });
        assert_eq!(cells(&ReplicaSets, &object, 0), ["a", "3", "2", "1", "<unknown>", "c,d", "i,j", "<none>"]);
    }

    #[test]
    fn counts_in_the_status() {
        let object = |status: Value| json!({"spec": {"selector": {}}, "status": status});
        let errors = |status| update_errors(&ReplicaSets, object(status), object(json!({})));
        assert!(errors(json!({"replicas": 2, "readyReplicas": 2, "availableReplicas": 2})).is_empty());
        assert_eq!(
            errors(json!({"replicas": 1, "readyReplicas": 2})),
            vec!["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]
        );
    }
}
