use keelstone_machinery::{field::Causes, ResourceInfo, SubresourceInfo};
use keelstone_registry::{Column, Resource, WriteContext};
use serde_json::{json, Value};

use crate::check;
use crate::columns::{self, column};
use crate::json::{at, child, copy, default_if_zero, has, items, set, text};
use crate::strategy;

/// Namespace, v1. It goes away in two steps: a deletion marks it `Terminating`, and the object is removed once
/// its finalizers (`spec.finalizers`, taken away through `finalize`) are gone.
pub struct Namespaces;

/// The finalizer that every namespace has until its content is gone.
pub const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

static INFO: ResourceInfo = ResourceInfo {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    categories: &[],
    namespaced: false,
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    subresources: SUBRESOURCES,
};

static SUBRESOURCES: &[SubresourceInfo] = &[
    SubresourceInfo { name: "finalize", group: "", version: "v1", kind: "Namespace", verbs: &["update"] },
    strategy::status("", "v1", "Namespace"),
];

static COLUMNS: &[Column] = &[columns::NAME, column("Status", "string", "The phase of the namespace."), columns::AGE];

impl Resource for Namespaces {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        let name = text(object, "metadata.name").to_owned();
        if !name.is_empty() {
            if let Some(labels) = child(object, "metadata").and_then(|m| child(m, "labels")) {
                set(labels, NAME_LABEL, name);
            }
        }
        child(object, "spec");
        if let Some(status) = child(object, "status") {
            default_if_zero(status, "phase", "Active");
        }
    }

    fn prepare_for_create(&self, _context: &WriteContext, object: &mut Value) {
        // A generated name is only known now.
        self.default(object);
        set(object, "status", json!({"phase": "Active"}));
        let Some(spec) = child(object, "spec") else { return };
        let mut finalizers = items(spec, "finalizers").to_vec();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        set(spec, "finalizers", finalizers);
    }

    fn prepare_for_update(&self, context: &WriteContext, new: &mut Value, old: &Value) {
        match context.subresource.as_str() {
            "finalize" => copy(new, old, "status"),
            "status" => copy(new, old, "spec"),
            _ => {
                copy(new, old, "spec");
                copy(new, old, "status");
            }
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        for (index, finalizer) in items(object, "spec.finalizers").iter().enumerate() {
            let path = format!("spec.finalizers[{index}]");
            let name = finalizer.as_str().unwrap_or("");
            check::qualified_name(causes, &path, name);
            if !name.contains('/') && name != FINALIZER {
                check::invalid(
                    causes,
                    &path,
                    finalizer,
                    "name is neither a standard finalizer name nor is it fully qualified",
                );
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        let phase = text(new, "status.phase");
        let deleted = has(new, "metadata.deletionTimestamp");
        // Only a change of the phase is checked: an old object is not rejected for what it already is.
        if phase == text(old, "status.phase") {
            return;
        }
        if !deleted && phase != "Active" {
            let detail = "may only be 'Active' if `deletionTimestamp` is empty";
            check::invalid(causes, "status.phase", at(new, "status.phase"), detail);
        }
        if deleted && phase != "Terminating" {
            let detail = "may only be 'Terminating' if `deletionTimestamp` is not empty";
            check::invalid(causes, "status.phase", at(new, "status.phase"), detail);
        }
    }

    fn deletion_blocked(&self, object: &Value) -> bool {
        !items(object, "spec.finalizers").is_empty()
    }

    fn prepare_for_deletion(&self, object: &mut Value) {
        if let Some(status) = child(object, "status") {
            set(status, "phase", "Terminating");
        }
    }

    fn fields(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn field(&self, object: &Value, path: &str) -> Option<String> {
        (path == "status.phase").then(|| text(object, "status.phase").to_owned())
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        keelstone_machinery::validation::dns1123_label(name)
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        vec![columns::name(object), text(object, "status.phase").into(), columns::age(object, now_unix_s)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::update_errors;

    #[test]
    fn creation_sets_label_phase_and_finalizer() {
        let mut object = json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}});
        Namespaces.default(&mut object);
        Namespaces.prepare_for_create(&WriteContext::default(), &mut object);
        assert_eq!(object["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "a"}));
        assert_eq!(object["status"], json!({"phase": "Active"}));
        assert_eq!(object["spec"], json!({"finalizers": ["kubernetes"]}));
    }

    #[test]
    fn finalizers_only_change_through_finalize() {
        let old = json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}});
        let update = |subresource: &str| {
            let mut new = json!({"spec": {"finalizers": []}, "status": {"phase": "Active"}});
            let context = WriteContext { subresource: subresource.into(), ..WriteContext::default() };
            Namespaces.prepare_for_update(&context, &mut new, &old);
            new
        };
        assert_eq!(update(""), old);
        assert_eq!(update("finalize"), json!({"spec": {"finalizers": []}, "status": {"phase": "Terminating"}}));
    }

    #[test]
    fn the_phase_follows_deletion() {
        let old = json!({"status": {"phase": "Active"}});
        let errors = update_errors(&Namespaces, json!({"status": {"phase": "Terminating"}}), old);
        assert_eq!(
            errors,
            vec!["status.phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"]
        );
    }
}
