//! What RoleBindings and ClusterRoleBindings share.

use keelstone_machinery::field::Causes;
use keelstone_registry::Column;
use serde_json::Value;

use super::GROUP;
use crate::check;
use crate::columns::{self, column, wide};
use crate::json::{at, child, default_if_zero, items, items_mut, text};

pub static COLUMNS: &[Column] = &[
    columns::NAME,
    column("Role", "string", "The role that is granted."),
    columns::AGE,
    wide("Users", "string", "Users that the role is granted to."),
    wide("Groups", "string", "Groups that the role is granted to."),
    wide("ServiceAccounts", "string", "Service accounts that the role is granted to."),
];

/// Fills the API groups of the role and the subjects.
pub fn default(object: &mut Value) {
    if let Some(role) = child(object, "roleRef") {
        default_if_zero(role, "apiGroup", GROUP);
    }
    for subject in items_mut(object, "subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") {
            default_if_zero(subject, "apiGroup", GROUP);
        }
    }
}

/// Checks roleRef and subjects. `roles` are the kinds that may be granted.
pub fn validate(object: &Value, namespaced: bool, roles: &[&str], causes: &mut Causes) {
    check::one_of(causes, "roleRef.apiGroup", text(object, "roleRef.apiGroup"), &[GROUP]);
    check::one_of(causes, "roleRef.kind", text(object, "roleRef.kind"), roles);
    let name = text(object, "roleRef.name");
    if name.is_empty() {
        check::required(causes, "roleRef.name", "");
    } else {
        for message in keelstone_machinery::validation::path_segment_name(name) {
            check::invalid(causes, "roleRef.name", &name.into(), &message);
        }
    }
    for (index, subject) in items(object, "subjects").iter().enumerate() {
        check_subject(subject, &format!("subjects[{index}]"), namespaced, causes);
    }
}

fn check_subject(subject: &Value, path: &str, namespaced: bool, causes: &mut Causes) {
    let (kind, name, group) = (text(subject, "kind"), text(subject, "name"), text(subject, "apiGroup"));
    if name.is_empty() {
        check::required(causes, &format!("{path}.name"), "");
    }
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                check::dns_subdomain(causes, &format!("{path}.name"), name);
            }
            check::one_of(causes, &format!("{path}.apiGroup"), group, &[""]);
            if !namespaced && text(subject, "namespace").is_empty() {
                check::required(causes, &format!("{path}.namespace"), "");
            }
        }
        "User" | "Group" => check::one_of(causes, &format!("{path}.apiGroup"), group, &[GROUP]),
        other => check::one_of(causes, &format!("{path}.kind"), other, &["Group", "ServiceAccount", "User"]),
    }
}

/// What is granted cannot change: that would change the grant for all subjects.
pub fn validate_update(new: &Value, old: &Value, causes: &mut Causes) {
    if !check::same(at(new, "roleRef"), at(old, "roleRef")) {
        check::invalid(causes, "roleRef", at(new, "roleRef"), "cannot change roleRef");
    }
}

fn subjects(object: &Value, kind: &str) -> Value {
    let names: Vec<String> = items(object, "subjects")
        .iter()
        .filter(|subject| text(subject, "kind") == kind)
        .map(|subject| match (kind, text(subject, "namespace")) {
            ("ServiceAccount", namespace) if !namespace.is_empty() => format!("{namespace}/{}", text(subject, "name")),
            _ => text(subject, "name").to_owned(),
        })
        .collect();
    names.join(", ").into()
}

pub fn row(object: &Value, now_unix_s: i64) -> Vec<Value> {
    vec![
        columns::name(object),
        format!("{}/{}", text(object, "roleRef.kind"), text(object, "roleRef.name")).into(),
        columns::age(object, now_unix_s),
        subjects(object, "User"),
        subjects(object, "Group"),
        subjects(object, "ServiceAccount"),
    ]
}
