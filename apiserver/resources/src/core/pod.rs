use keelstone_machinery::{field::Causes, ResourceInfo, SubresourceInfo};
use keelstone_registry::{Column, Resource, WriteContext};
use serde_json::{json, Value};

use super::{pod_row, pod_update};
use crate::json::{at, child, copy, default_if_absent, flag, get_mut, int, is_empty, items, set, text};
use crate::pod_spec::{defaults, qos, validate};
use crate::strategy;

/// Pod, v1.
pub struct Pods;

static INFO: ResourceInfo = ResourceInfo {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: SUBRESOURCES,
};

static SUBRESOURCES: &[SubresourceInfo] = &[
    strategy::action("binding", "", "v1", "Binding"),
    strategy::action("eviction", "policy", "v1", "Eviction"),
    SubresourceInfo { name: "log", group: "", version: "v1", kind: "Pod", verbs: &["get"] },
    strategy::status("", "v1", "Pod"),
];

static FIELDS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

/// Subresources through which the server itself changes the node and the status at once.
const SERVER_SUBRESOURCES: [&str; 2] = ["binding", "eviction"];

/// True if all containers of the pod have ended for good.
pub fn is_finished(pod: &Value) -> bool {
    matches!(text(pod, "status.phase"), "Succeeded" | "Failed")
}

/// The single address and the first of the list of addresses are one field in two places.
fn join_addresses(status: &mut Value, single: &str, list: &str) {
    let address = text(status, single).to_owned();
    if !address.is_empty() && is_empty(status, list) {
        set(status, list, json!([{"ip": address}]));
    } else if address.is_empty() && !is_empty(status, list) {
        let first = items(status, list).first().map_or("", |entry| text(entry, "ip")).to_owned();
        set(status, single, first);
    }
}

impl Resource for Pods {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            defaults::pod_spec(spec);
            defaults::pod_only(spec);
        }
        if let Some(status) = get_mut(object, "status").filter(|s| s.is_object()) {
            join_addresses(status, "podIP", "podIPs");
            join_addresses(status, "hostIP", "hostIPs");
        }
    }

    fn prepare_for_create(&self, _context: &WriteContext, object: &mut Value) {
        let mut status = json!({"phase": "Pending", "qosClass": qos::class(at(object, "spec"))});
        if !is_empty(object, "spec.schedulingGates") {
            let message = "Scheduling is blocked due to non-empty scheduling gates";
            let condition = json!({
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": message,
            });
            set(&mut status, "conditions", json!([condition]));
        }
        set(object, "status", status);
    }

    fn prepare_for_update(&self, context: &WriteContext, new: &mut Value, old: &Value) {
        if SERVER_SUBRESOURCES.contains(&context.subresource.as_str()) {
            return;
        }
        strategy::separate_status(context, new, old);
        if context.subresource == "status" {
            if let Some(status) = child(new, "status") {
                default_if_absent(status, "qosClass", text(old, "status.qosClass"));
            }
            if let Some(metadata) = child(new, "metadata") {
                copy(metadata, at(old, "metadata"), "ownerReferences");
                copy(metadata, at(old, "metadata"), "deletionTimestamp");
            }
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        validate::pod(object, causes);
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        pod_update::validate(new, old, causes);
    }

    fn validate_update_of(&self, context: &WriteContext, new: &Value, old: &Value, causes: &mut Causes) {
        if !SERVER_SUBRESOURCES.contains(&context.subresource.as_str()) {
            self.validate_update(new, old, causes);
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn generation_changes(&self, new: &Value, old: &Value) -> bool {
        // Being bound is not a change of what was asked for.
        let mut wanted = at(new, "spec").clone();
        copy(&mut wanted, at(old, "spec"), "nodeName");
        wanted != *at(old, "spec")
    }

    fn grace_period_s(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        if text(object, "spec.nodeName").is_empty() || is_finished(object) {
            return Some(0);
        }
        let period = requested.or_else(|| int(object, "spec.terminationGracePeriodSeconds")).unwrap_or(0);
        Some(if period < 0 { 1 } else { period })
    }

    fn fields(&self) -> &'static [&'static str] {
        FIELDS
    }

    fn field(&self, object: &Value, path: &str) -> Option<String> {
        match path {
            "spec.hostNetwork" => Some(flag(object, path).to_string()),
            "status.podIPs" => {
                let addresses: Vec<&str> = items(object, path).iter().map(|entry| text(entry, "ip")).collect();
                Some(addresses.join(","))
            }
            _ => FIELDS.contains(&path).then(|| text(object, path).to_owned()),
        }
    }

    fn columns(&self) -> &'static [Column] {
        pod_row::COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        pod_row::row(object, now_unix_s)
    }

    fn row_conditions(&self, object: &Value) -> Vec<Value> {
        let message = match text(object, "status.phase") {
            "Succeeded" => "The pod has completed successfully.",
            "Failed" => "The pod failed.",
            _ => return Vec::new(),
        };
        let reason = text(object, "status.phase");
        vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::context;

    #[test]
    fn status_is_the_servers_on_creation() {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "b"}]}, "status": {"phase": "Running"}});
        Pods.default(&mut pod);
        Pods.prepare_for_create(&context(""), &mut pod);
        assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    }

    #[test]
    fn status_and_specification_are_written_apart() {
        let old = json!({"metadata": {}, "spec": {"a": 1}, "status": {"phase": "Running", "qosClass": "Burstable"}});
        let mut new = json!({"metadata": {}, "spec": {"a": 2}, "status": {"phase": "Failed"}});
        Pods.prepare_for_update(&context("status"), &mut new, &old);
        assert_eq!(new["spec"], old["spec"]);
        assert_eq!(new["status"], json!({"phase": "Failed", "qosClass": "Burstable"}));
        let mut new = json!({"metadata": {}, "spec": {"a": 2}});
        Pods.prepare_for_update(&context(""), &mut new, &old);
        assert_eq!((&new["spec"], &new["status"]), (&json!({"a": 2}), &old["status"]));
    }

    #[test]
    fn a_binding_sets_the_node_and_the_status() {
        let old = json!({"metadata": {}, "spec": {}, "status": {"phase": "Pending"}});
        let bound =
            json!({"metadata": {}, "spec": {"nodeName": "w"}, "status": {"phase": "Pending", "conditions": [1]}});
        let errors = |subresource: &str| {
            let mut new = bound.clone();
            Pods.prepare_for_update(&context(subresource), &mut new, &old);
            assert_eq!(new == bound, subresource == "binding");
            let mut causes = Causes::new();
            Pods.validate_update_of(&context(subresource), &new, &old, &mut causes);
            assert!(!Pods.generation_changes(&new, &old));
            causes.len()
        };
        assert_eq!((errors("binding"), errors("")), (0, 1));
    }

    #[test]
    fn grace_periods() {
        let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
        assert_eq!(Pods.grace_period_s(&pod("w", "Running"), None), Some(30));
        assert_eq!(Pods.grace_period_s(&pod("w", "Running"), Some(5)), Some(5));
        assert_eq!(Pods.grace_period_s(&pod("w", "Running"), Some(-1)), Some(1));
        assert_eq!(Pods.grace_period_s(&pod("", "Pending"), Some(5)), Some(0));
        assert_eq!(Pods.grace_period_s(&pod("w", "Failed"), None), Some(0));
    }

    #[test]
    fn fields_and_addresses() {
        let mut pod = json!({"spec": {"nodeName": "w"}, "status": {"podIP": "10.0.0.1"}});
        Pods.default(&mut pod);
        assert_eq!(Pods.field(&pod, "spec.nodeName").as_deref(), Some("w"));
        assert_eq!(Pods.field(&pod, "status.podIPs").as_deref(), Some("10.0.0.1"));
        assert_eq!(Pods.field(&pod, "spec.hostNetwork").as_deref(), Some("false"));
        assert_eq!(Pods.field(&pod, "spec.volumes"), None);
    }
}
