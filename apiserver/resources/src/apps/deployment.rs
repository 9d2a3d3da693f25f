use keelstone_machinery::{field::Causes, ResourceInfo, SubresourceInfo};
use keelstone_registry::{Column, Resource, WriteContext};
use serde_json::{json, Value};

use super::{rolling_update, workload};
use crate::check;
use crate::columns::{self, column, wide};
use crate::json::{at, child, default_if_absent, default_if_zero, get_mut, has, int, set, text};
use crate::pod_spec::defaults;
use crate::strategy;

/// Deployment, apps/v1.
pub struct Deployments;

static INFO: ResourceInfo = ResourceInfo {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: SUBRESOURCES,
};

static SUBRESOURCES: &[SubresourceInfo] = &[strategy::scale(), strategy::status("apps", "v1", "Deployment")];

static COLUMNS: &[Column] = &[
    columns::NAME,
    column("Ready", "string", "Ready replicas of those wanted."),
    column("Up-to-date", "string", "Replicas made from the current template."),
    column("Available", "string", "Replicas that are ready for long enough."),
    columns::AGE,
    columns::CONTAINERS,
    columns::IMAGES,
    wide("Selector", "string", "Which pods the deployment counts as its own."),
];

const SURGE: &str = "25%";
const REVISION_HISTORY_LIMIT: i64 = 10;
const PROGRESS_DEADLINE_S: i64 = 600;

fn default_strategy(spec: &mut Value) {
    let Some(strategy) = child(spec, "strategy") else { return };
    default_if_zero(strategy, "type", "RollingUpdate");
    if text(strategy, "type") != "RollingUpdate" {
        return;
    }
    if let Some(rolling) = child(strategy, "rollingUpdate") {
        default_if_absent(rolling, "maxUnavailable", SURGE);
        default_if_absent(rolling, "maxSurge", SURGE);
    }
}

fn check_strategy(object: &Value, causes: &mut Causes) {
    let path = "spec.strategy.rollingUpdate";
    match text(object, "spec.strategy.type") {
        "Recreate" => {
            if has(object, path) {
                check::forbidden(causes, path, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => rolling_update::check(at(object, path), path, causes),
        other => check::one_of(causes, "spec.strategy.type", other, &["Recreate", "RollingUpdate"]),
    }
}

impl Resource for Deployments {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        default_if_absent(spec, "replicas", 1);
        default_strategy(spec);
        default_if_absent(spec, "revisionHistoryLimit", REVISION_HISTORY_LIMIT);
        default_if_absent(spec, "progressDeadlineSeconds", PROGRESS_DEADLINE_S);
        if let Some(template) = get_mut(spec, "template").filter(|t| t.is_object()) {
            defaults::template(template);
        }
    }

    fn prepare_for_create(&self, _context: &WriteContext, object: &mut Value) {
        set(object, "status", json!({}));
    }

    fn prepare_for_update(&self, context: &WriteContext, new: &mut Value, old: &Value) {
        strategy::separate_status(context, new, old);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn generation_changes(&self, new: &Value, old: &Value) -> bool {
        new.get("spec") != old.get("spec")
            || !check::same(at(new, "metadata.annotations"), at(old, "metadata.annotations"))
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        workload::check_spec(object, causes);
        check_strategy(object, causes);
        check::not_negative(causes, "spec.revisionHistoryLimit", int(object, "spec.revisionHistoryLimit"));
        let deadline = int(object, "spec.progressDeadlineSeconds");
        check::not_negative(causes, "spec.progressDeadlineSeconds", deadline);
        if let Some(deadline) = deadline.filter(|d| *d <= int(object, "spec.minReadySeconds").unwrap_or(0)) {
            let detail = "must be greater than minReadySeconds";
            check::invalid(causes, "spec.progressDeadlineSeconds", &deadline.into(), detail);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        check::immutable(causes, "spec.selector", at(new, "spec.selector"), at(old, "spec.selector"));
        if !check::same(at(new, "status"), at(old, "status")) {
            let parts = ["updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"];
            workload::check_status(new, &parts[..3], causes);
            check::not_negative(causes, "status.unavailableReplicas", int(new, "status.unavailableReplicas"));
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        let ready = int(object, "status.readyReplicas").unwrap_or(0);
        let wanted = int(object, "spec.replicas").unwrap_or(0);
        let [containers, images, selector] = workload::wide_cells(object);
        vec![
            columns::name(object),
            format!("{ready}/{wanted}").into(),
            columns::count(object, "status.updatedReplicas"),
            columns::count(object, "status.availableReplicas"),
            columns::age(object, now_unix_s),
            containers,
            images,
            selector,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cells, errors, update_errors};

    fn deployment() -> Value {
        json!({
            "metadata": {"name": "web"},
            "spec": {
                "selector": {"matchLabels": {"app": "a"}},
                "template": {
                    "metadata": {"labels": {"app": "a"}},
                    "spec": {"containers": [{"name": "c", "image": "i:1"}]},
                },
            },
        })
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut object = deployment();
        change(&mut object["spec"]);
        errors(&Deployments, object)
    }

    #[test]
    fn defaults_are_kubernetes_defaults() {
        let mut object = deployment();
        Deployments.default(&mut object);
        let spec = &object["spec"];
        assert_eq!(spec["replicas"], 1);
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!((&spec["revisionHistoryLimit"], &spec["progressDeadlineSeconds"]), (&json!(10), &json!(600)));
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
        let mut zero = json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}});
        Deployments.default(&mut zero);
        assert_eq!((&zero["spec"]["replicas"], &zero["spec"]["strategy"]), (&json!(0), &json!({"type": "Recreate"})));
    }

    #[test]
    fn errors_of_the_specification() {
        assert!(changed(|_| {}).is_empty());
        assert_eq!(
            changed(|s| s["template"]["metadata"]["labels"]["app"] = "b".into()),
            vec!["spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`"]
        );
        // Without a selector nothing is selected, so the labels do not match either: Kubernetes says both.
        let missing = changed(|s| s["selector"] = Value::Null);
        assert_eq!((missing.len(), missing[0].as_str()), (2, "spec.selector: Required value"));
        assert_eq!(
            changed(|s| s["selector"] = json!({})),
            vec!["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]
        );
        assert_eq!(
            changed(|s| s["replicas"] = (-1).into()),
            vec!["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]
        );
        assert_eq!(
            changed(|s| s["template"]["spec"]["restartPolicy"] = "Never".into()),
            vec!["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""]
        );
        assert_eq!(
            changed(|s| s["progressDeadlineSeconds"] = 0.into()),
            vec!["spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds"]
        );
    }

    #[test]
    fn errors_of_the_strategy() {
        let rolling = |unavailable: Value, surge: Value| {
            changed(|s| s["strategy"] = json!({"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}))
        };
        assert!(rolling(json!(0), json!(1)).is_empty());
        assert_eq!(
            rolling(json!(0), json!("0%")),
            vec!["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]
        );
        assert_eq!(rolling(json!("101%"), json!(1)).len(), 1);
        assert!(rolling(json!("100%"), json!(1)).is_empty());
        assert_eq!(rolling(json!("x"), json!(1)).len(), 1);
        assert_eq!(
            changed(|s| s["strategy"] = json!({"type": "Recreate", "rollingUpdate": {}})),
            vec!["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]
        );
    }

    #[test]
    fn the_selector_stays() {
        let mut new = deployment();
        new["spec"]["selector"] = json!({"matchLabels": {"app": "b"}});
        assert_eq!(
            update_errors(&Deployments, new, deployment()),
            vec!["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"]
        );
    }

    #[test]
    fn annotations_raise_the_generation() {
        let mut new = deployment();
        new["metadata"]["annotations"] = json!({"a": "b"});
        assert!(Deployments.generation_changes(&new, &deployment()));
        new["metadata"] = json!({"labels": {"a": "b"}});
        assert!(!Deployments.generation_changes(&new, &deployment()));
    }

    #[test]
    fn row() {
        let mut object = deployment();
        Deployments.default(&mut object);
        object["status"] = json!({"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1});
        assert_eq!(cells(&Deployments, &object, 0), ["web", "1/1", "2", "1", "<unknown>", "c", "i:1", "app=a"]);
    }
}
