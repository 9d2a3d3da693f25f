//! The subresource `binding` of pods: a pod gets its node. Pure; the caller stores the result.

use keelstone_machinery::field::Causes;
use keelstone_machinery::gvk::{GroupKind, GroupResource};
use keelstone_machinery::meta;
use keelstone_machinery::status::{ApiResult, ApiStatus};
use serde_json::{json, Value};

use crate::check;
use crate::conditions;
use crate::json::{child, entries, get_mut, has, is_empty, remove, set, text};

/// Checks the body of a binding of the pod `name`.
///
/// # Errors
/// 400 if the body names another pod, 422 if it names no node.
pub fn validate(binding: &Value, name: &str) -> ApiResult<()> {
    let given = text(binding, "metadata.name");
    if !given.is_empty() && given != name {
        return Err(ApiStatus::bad_request("name in URL does not match name in Binding object"));
    }
    let mut causes = Causes::new();
    let kind = text(binding, "target.kind");
    if !kind.is_empty() {
        check::one_of(&mut causes, "target.kind", kind, &["Node", "<empty>"]);
    }
    if is_empty(binding, "target.name") {
        check::required(&mut causes, "target.name", "");
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiStatus::invalid(&GroupKind { group: String::new(), kind: "Binding".into() }, name, causes))
}

/// Binds `pod` as the checked `binding` says: node, labels, annotations, condition `PodScheduled`.
///
/// # Errors
/// 409 if the pod is another one than the binding means, is being deleted, has a node already or is held back
/// by scheduling gates.
pub fn apply(binding: &Value, pod: &mut Value, now_unix_s: i64) -> ApiResult<()> {
    let name = meta::name(pod).to_owned();
    refuse(binding, pod, &name).map_or(Ok(()), |message| Err(conflict(&name, &message)))?;
    if let Some(spec) = child(pod, "spec") {
        set(spec, "nodeName", text(binding, "target.name"));
    }
    for (key, value) in entries(binding, "metadata.annotations") {
        meta::set_annotation(pod, key, value.as_str());
    }
    for (key, value) in entries(binding, "metadata.labels") {
        meta::set_label(pod, key, value.as_str());
    }
    if let Some(status) = get_mut(pod, "status") {
        // The node that was being made free is of no interest any more.
        remove(status, "nominatedNodeName");
    }
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastTransitionTime": meta::rfc3339_from_unix(now_unix_s),
    });
    conditions::put(pod, condition);
    Ok(())
}

/// Why the pod cannot be bound.
fn refuse(binding: &Value, pod: &Value, name: &str) -> Option<String> {
    for (key, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let path = format!("metadata.{key}");
        let (wanted, is) = (text(binding, &path), text(pod, &path));
        if !wanted.is_empty() && wanted != is {
            return Some(format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}"));
        }
    }
    let node = text(pod, "spec.nodeName");
    if has(pod, "metadata.deletionTimestamp") {
        Some(format!("pod {name} is being deleted, cannot be assigned to a host"))
    } else if !node.is_empty() {
        Some(format!("pod {name} is already assigned to node {node:?}"))
    } else if !is_empty(pod, "spec.schedulingGates") {
        Some(format!("pod {name} has non-empty .spec.schedulingGates"))
    } else {
        None
    }
}

fn conflict(name: &str, message: &str) -> ApiStatus {
    ApiStatus::conflict(&GroupResource { group: String::new(), resource: "pods/binding".into() }, name, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Value {
        json!({"metadata": {"name": "p", "annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "w1"}})
    }

    #[test]
    fn bodies() {
        assert!(validate(&binding(), "p").is_ok());
        assert_eq!(validate(&binding(), "q").map_err(|e| e.code), Err(400));
        let none = validate(&json!({"target": {"kind": "Pod"}}), "p").unwrap_err();
        assert_eq!((none.code, none.causes().len()), (422, 2));
    }

    #[test]
    fn a_pod_gets_one_node_once() {
        let mut pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}, "status": {"phase": "Pending", "nominatedNodeName": "w2"}});
        apply(&binding(), &mut pod, 60).unwrap();
        assert_eq!(pod["spec"]["nodeName"], "w1");
        assert_eq!(pod["status"].get("nominatedNodeName"), None);
        assert_eq!(pod["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(
            pod["status"]["conditions"],
            json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-01T00:01:00Z"}])
        );
        let again = apply(&binding(), &mut pod, 60).unwrap_err();
        assert!(again.is_conflict());
        assert!(again.message.contains("pod p is already assigned to node \"w1\""), "{}", again.message);
    }

    #[test]
    fn what_cannot_be_bound() {
        for pod in [
            json!({"metadata": {"name": "p", "deletionTimestamp": "1970-01-01T00:00:00Z"}}),
            json!({"metadata": {"name": "p"}, "spec": {"schedulingGates": [{"name": "g"}]}}),
        ] {
            assert!(apply(&binding(), &mut pod.clone(), 0).unwrap_err().is_conflict());
        }
        let mut other = binding();
        other["metadata"]["uid"] = "v".into();
        assert!(apply(&other, &mut json!({"metadata": {"name": "p", "uid": "u"}}), 0).unwrap_err().is_conflict());
    }
}
