//! Deployments and ReplicaSets as an autoscaling/v1 Scale, for the subresource `scale`. Pure.

use keelstone_machinery::field::Causes;
use serde_json::{json, Value};

use crate::check;
use crate::columns;
use crate::json::{at, child, int, set, text};

/// The Scale of a workload.
pub fn from_workload(workload: &Value) -> Value {
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = at(workload, "metadata").get(key) {
            set(&mut metadata, key, value.clone());
        }
    }
    let mut status = json!({"replicas": int(workload, "status.replicas").unwrap_or(0)});
    let selector = columns::selector(at(workload, "spec.selector"));
    if !selector.is_empty() {
        set(&mut status, "selector", selector);
    }
    let mut spec = json!({});
    // Zero is left out, as the API's type does.
    if let Some(replicas) = int(workload, "spec.replicas").filter(|replicas| *replicas != 0) {
        set(&mut spec, "replicas", replicas);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

/// The errors of a Scale that is to be written.
pub fn validate(scale: &Value, causes: &mut Causes) {
    check::not_negative(causes, "spec.replicas", int(scale, "spec.replicas"));
}

/// Puts a Scale's wanted replicas into the workload. Preconditions (uid, resourceVersion) are the caller's.
pub fn apply(scale: &Value, workload: &mut Value) {
    let replicas = int(scale, "spec.replicas").unwrap_or(0);
    if let Some(spec) = child(workload, "spec") {
        set(spec, "replicas", replicas);
    }
}

/// The uid and the resourceVersion that a Scale says it was read with; empty if it says none.
pub fn preconditions(scale: &Value) -> (&str, &str) {
    (text(scale, "metadata.uid"), text(scale, "metadata.resourceVersion"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut workload = json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "5", "labels": {"a": "b"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}}, "status": {"replicas": 1},
        });
        let mut scale = from_workload(&workload);
        assert_eq!(
            scale,
            json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "5"},
                "spec": {"replicas": 2}, "status": {"replicas": 1, "selector": "app=a"},
            })
        );
        assert_eq!(preconditions(&scale), ("u", "5"));
        scale["spec"] = json!({});
        apply(&scale, &mut workload);
        assert_eq!(workload["spec"]["replicas"], 0);
    }

    #[test]
    fn replicas_are_not_negative() {
        let mut causes = Causes::new();
        validate(&json!({"spec": {"replicas": -1}}), &mut causes);
        assert_eq!(causes.list()[0].message, "Invalid value: -1: must be greater than or equal to 0");
    }
}
