//! Validation of pods and pod templates, with Kubernetes' rules and texts.

mod affinity;
mod container;
mod env;
mod probe;
mod resources;
mod scheduling;
mod security;
mod spec;
mod volume;
mod volume_source;

use keelstone_machinery::field::Causes;
use serde_json::Value;

use crate::check;
use crate::json::{at, is_empty};

/// The errors of a pod, beyond its metadata's.
pub fn pod(pod: &Value, causes: &mut Causes) {
    spec::check(at(pod, "spec"), "spec", causes);
    if !is_empty(pod, "spec.schedulingGates") && !is_empty(pod, "spec.nodeName") {
        check::forbidden(causes, "spec.nodeName", "cannot be set until all schedulingGates have been cleared");
    }
    if !is_empty(pod, "spec.ephemeralContainers") {
        // They are added through a subresource, which is not served.
        check::forbidden(causes, "spec.ephemeralContainers", "cannot be set on create");
    }
}

/// The errors of a pod template at `path`.
pub fn template(template: &Value, path: &str, causes: &mut Causes) {
    check::labels(causes, &format!("{path}.labels"), template, "metadata.labels");
    for key in at(template, "metadata.annotations").as_object().into_iter().flatten().map(|(key, _)| key) {
        check::qualified_name(causes, &format!("{path}.annotations"), &key.to_lowercase());
    }
    spec::check(at(template, "spec"), &format!("{path}.spec"), causes);
    if !is_empty(template, "spec.ephemeralContainers") {
        let detail = "ephemeral containers not allowed in pod template";
        check::forbidden(causes, &format!("{path}.spec.ephemeralContainers"), detail);
    }
}

#[cfg(test)]
pub(super) mod testing {
    use keelstone_machinery::field::Causes;
    use serde_json::{json, Value};

    /// The errors of a pod's specification after `change`, with paths from `spec`.
    pub fn errors(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        change(&mut spec);
        crate::pod_spec::defaults::pod_spec(&mut spec);
        let mut causes = Causes::new();
        super::pod(&json!({"spec": spec}), &mut causes);
        causes.list().iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    }

    /// The errors after setting one field of the only container.
    pub fn container_errors(field: &str, value: Value) -> Vec<String> {
        errors(|spec| spec["containers"][0][field] = value)
    }
}
