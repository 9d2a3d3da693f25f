use serde_json::Value;

use crate::constants::ANNOTATIONS_BYTES_MAX;
use crate::field::{Causes, Path};
use crate::meta;

use super::{dns1123_label, label_value, qualified_name};

/// Errors of a new object's metadata. `name_rule` is the kind's rule for names; a `generateName` is checked
/// by the same rule as the prefix it is.
pub fn object_meta(object: &Value, namespaced: bool, name_rule: &dyn Fn(&str) -> Vec<String>, causes: &mut Causes) {
    let path = Path::new("metadata");
    let (name, generate) = (meta::name(object), meta::generate_name(object));
    if !generate.is_empty() {
        causes.invalid_each(&path.child("generateName"), generate, &name_rule(&masked_prefix(generate)));
    }
    if name.is_empty() {
        causes.required(&path.child("name"), "name or generateName is required");
    } else {
        causes.invalid_each(&path.child("name"), name, &name_rule(name));
    }
    let namespace = meta::namespace(object);
    if namespaced && namespace.is_empty() {
        causes.required(&path.child("namespace"), "");
    } else if namespaced {
        causes.invalid_each(&path.child("namespace"), namespace, &dns1123_label(namespace));
    } else if !namespace.is_empty() {
        causes.forbidden(&path.child("namespace"), "not allowed on this type");
    }
    common(object, &path, causes);
}

/// A prefix that ends in `-` is valid if the name would be with a letter there.
fn masked_prefix(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => prefix.to_owned(),
    }
}

fn common(object: &Value, path: &Path, causes: &mut Causes) {
    labels(object, &path.child("labels"), causes);
    annotations(object, &path.child("annotations"), causes);
    owners(object, &path.child("ownerReferences"), causes);
    for finalizer in meta::finalizers(object) {
        let at = path.child("finalizers");
        causes.invalid_each(&at, finalizer, &qualified_name(finalizer));
        if !finalizer.contains('/') && !["orphan", "foregroundDeletion", "kubernetes"].contains(&finalizer) {
            causes.invalid(&at, finalizer, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
}

fn labels(object: &Value, path: &Path, causes: &mut Causes) {
    for (key, value) in meta::labels(object) {
        causes.invalid_each(path, key, &qualified_name(key));
        causes.invalid_each(&path.key(key), value, &label_value(value));
    }
}

fn annotations(object: &Value, path: &Path, causes: &mut Causes) {
    let mut bytes = 0;
    for (key, value) in meta::annotations(object) {
        causes.invalid_each(path, key, &qualified_name(&key.to_lowercase()));
        bytes += key.len() + value.len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        causes.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn owners(object: &Value, path: &Path, causes: &mut Causes) {
    let mut controller: Option<String> = None;
    for (index, owner) in meta::owner_references(object).iter().enumerate() {
        let at = path.index(index);
        let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("apiVersion").is_empty() || text("apiVersion").starts_with('/') {
            causes.invalid(&at.child("apiVersion"), text("apiVersion"), "version must not be empty");
        }
        for key in ["kind", "name", "uid"] {
            if text(key).is_empty() {
                causes.invalid(&at.child(key), "", &format!("{key} must not be empty"));
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            causes.invalid(&at, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            let this = format!("{}/{}", text("kind"), text("name"));
            if let Some(first) = &controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                causes.invalid(path, Value::Array(meta::owner_references(object).to_vec()), &detail);
            } else {
                controller = Some(this);
            }
        }
    }
}

/// Errors of an update's metadata: what never changes, and what a deletion in progress forbids.
pub fn object_meta_update(new: &Value, old: &Value, causes: &mut Causes) {
    let path = Path::new("metadata");
    for key in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let of = |object: &Value| object.pointer(&format!("/metadata/{key}")).cloned().unwrap_or(Value::Null);
        causes.immutable(&path.child(key), &of(new), &of(old));
    }
    if meta::deletion_timestamp(old).is_some() {
        let before = meta::finalizers(old);
        let added: Vec<&str> = meta::finalizers(new).into_iter().filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            let list: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            );
            causes.forbidden(&path.child("finalizers"), &detail);
        }
    }
    let generation = |object: &Value| object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    if generation(new) < generation(old) {
        causes.invalid(&path.child("generation"), generation(new), "must not be decremented");
    }
    if meta::resource_version(new).is_empty() {
        causes.invalid(&path.child("resourceVersion"), "", "must be specified for an update");
    }
    common(new, &path, causes);
}
