//! What an update may change in a pod's specification.

use keelstone_machinery::field::Causes;
use serde_json::Value;

use crate::check;
use crate::json::{at, copy, get_mut, has, int, is_empty, items, text};

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub fn validate(new: &Value, old: &Value, causes: &mut Causes) {
    let (new_spec, old_spec) = (at(new, "spec"), at(old, "spec"));
    for (list, what) in [("containers", "containers"), ("initContainers", "initContainers")] {
        if items(new_spec, list).len() != items(old_spec, list).len() {
            let detail = format!("pod updates may not add or remove {what}");
            check::forbidden(causes, &format!("spec.{list}"), &detail);
            return;
        }
    }
    active_deadline(new_spec, old_spec, causes);
    let gated = !is_empty(old_spec, "schedulingGates");
    if only_additions(items(new_spec, "tolerations"), items(old_spec, "tolerations")).is_err() {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        check::forbidden(causes, "spec.tolerations", detail);
        return;
    }
    scheduling_gates(new_spec, old_spec, causes);
    let comparable = with_mutable_fields_of(new_spec, old_spec, gated);
    if !check::same(&comparable, old_spec) {
        let changed = changed_fields(&comparable, old_spec).join(", ");
        check::forbidden(causes, "spec", &format!("{MAY_CHANGE}\nchanged: {changed}"));
    }
}

fn active_deadline(new: &Value, old: &Value, causes: &mut Causes) {
    let path = "spec.activeDeadlineSeconds";
    match (int(new, "activeDeadlineSeconds"), int(old, "activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            let detail = format!("must be between 0 and {}, inclusive", i32::MAX);
            check::invalid(causes, path, &new.into(), &detail);
        }
        (Some(new), Some(old)) if new > old => {
            check::invalid(causes, path, &new.into(), "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            check::invalid(causes, path, &Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
}

/// Each old toleration must still be there; its seconds may differ.
fn only_additions(new: &[Value], old: &[Value]) -> Result<(), ()> {
    let plain = |toleration: &Value| {
        let mut plain = toleration.clone();
        crate::json::remove(&mut plain, "tolerationSeconds");
        plain
    };
    let kept = |old: &Value| new.iter().any(|new| check::same(&plain(new), &plain(old)));
    if old.iter().all(kept) {
        Ok(())
    } else {
        Err(())
    }
}

fn scheduling_gates(new: &Value, old: &Value, causes: &mut Causes) {
    for gate in items(new, "schedulingGates") {
        let name = text(gate, "name");
        if !items(old, "schedulingGates").iter().any(|old| text(old, "name") == name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            check::forbidden(causes, "spec.schedulingGates", &detail);
        }
    }
}

/// `new` with all that may change taken from `old`: what still differs may not.
fn with_mutable_fields_of(new: &Value, old: &Value, gated: bool) -> Value {
    let mut spec = new.clone();
    for list in ["containers", "initContainers"] {
        let containers = get_mut(&mut spec, list).and_then(Value::as_array_mut);
        for (container, old) in containers.into_iter().flatten().zip(items(old, list)) {
            copy(container, old, "image");
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        copy(&mut spec, old, key);
    }
    let period = "terminationGracePeriodSeconds";
    if int(new, period) == Some(1) && int(old, period).is_some_and(|old| old < 0) {
        copy(&mut spec, old, period);
    }
    if gated {
        // Gates hold a pod back for its placement to be decided, so that may still be narrowed.
        copy(&mut spec, old, "nodeSelector");
        copy(&mut spec, old, "affinity");
    }
    // Containers that are added for debugging go through their own subresource.
    if !has(new, "ephemeralContainers") {
        copy(&mut spec, old, "ephemeralContainers");
    }
    spec
}

/// The paths that differ, for the reader of the error: named to the depth of a list or map.
fn changed_fields(new: &Value, old: &Value) -> Vec<String> {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return vec!["spec".into()] };
    let mut changed: Vec<String> = new
        .keys()
        .chain(old.keys())
        .filter(|key| !check::same(new.get(*key).unwrap_or(&Value::Null), old.get(*key).unwrap_or(&Value::Null)))
        .map(|key| format!("spec.{key}"))
        .collect();
    changed.sort();
    changed.dedup();
    changed
}

#[cfg(test)]
mod tests {
    use crate::core::pod::Pods;
    use crate::testing::update_errors;
    use serde_json::{json, Value};

    fn pod() -> Value {
        json!({"spec": {
            "containers": [{"name": "a", "image": "x:1"}], "nodeName": "w1", "activeDeadlineSeconds": 10,
            "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 5}],
        }})
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut new = pod();
        change(&mut new["spec"]);
        update_errors(&Pods, new, pod())
    }

    #[test]
    fn what_may_change() {
        assert!(changed(|s| s["containers"][0]["image"] = "x:2".into()).is_empty());
        assert!(changed(|s| s["activeDeadlineSeconds"] = 9.into()).is_empty());
        assert!(changed(|s| s["tolerations"][0]["tolerationSeconds"] = 6.into()).is_empty());
        assert!(changed(|s| s["tolerations"] = json!([s["tolerations"][0], {"operator": "Exists"}])).is_empty());
    }

    #[test]
    fn what_may_not_change() {
        let errors = changed(|s| s["nodeName"] = "w2".into());
        assert_eq!(
            errors,
            vec![
                "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
                 `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                 existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                 previously negative)\nchanged: spec.nodeName"
            ]
        );
        assert_eq!(
            changed(|s| s["containers"] = json!([])),
            vec!["spec.containers: Forbidden: pod updates may not add or remove containers"]
        );
        assert_eq!(
            changed(|s| s["activeDeadlineSeconds"] = 11.into()),
            vec!["spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"]
        );
        assert_eq!(
            changed(|s| s["tolerations"] = json!([])),
            vec!["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
        );
        assert_eq!(changed(|s| s["schedulingGates"] = json!([{"name": "g"}])).len(), 1);
    }
}
