//! The rules of environment variables.

use keelstone_machinery::field::Causes;
use serde_json::Value;

use crate::check;
use crate::json::{has, is_empty, items, text};

const SOURCES: [&str; 4] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"];
/// Fields of the pod that a variable may take its value from.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub fn check(container: &Value, path: &str, causes: &mut Causes) {
    for (index, variable) in items(container, "env").iter().enumerate() {
        check_variable(variable, &format!("{path}.env[{index}]"), causes);
    }
    for (index, source) in items(container, "envFrom").iter().enumerate() {
        check_env_from(source, &format!("{path}.envFrom[{index}]"), causes);
    }
}

fn check_variable(variable: &Value, path: &str, causes: &mut Causes) {
    let name = text(variable, "name");
    if name.is_empty() {
        check::required(causes, &format!("{path}.name"), "");
    } else {
        check::env_name(causes, &format!("{path}.name"), name);
    }
    let Some(source) = variable.get("valueFrom").filter(|source| !source.is_null()) else { return };
    let path = format!("{path}.valueFrom");
    let empty = Value::from("");
    if !is_empty(variable, "value") {
        check::invalid(causes, &path, &empty, "may not be specified when `value` is not empty");
    }
    match SOURCES.iter().filter(|key| has(source, key)).count() {
        0 => {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
            check::invalid(causes, &path, &empty, detail);
        }
        1 => {}
        _ => check::invalid(causes, &path, &empty, "may not have more than one field specified at a time"),
    }
    if let Some(field) = source.get("fieldRef") {
        field_ref(field, &format!("{path}.fieldRef"), ENV_FIELDS, causes);
    }
    if let Some(field) = source.get("resourceFieldRef") {
        resource_field_ref(field, &format!("{path}.resourceFieldRef"), false, causes);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(selector) = source.get(key) {
            key_ref(selector, &format!("{path}.{key}"), causes);
        }
    }
}

fn key_ref(selector: &Value, path: &str, causes: &mut Causes) {
    if is_empty(selector, "name") {
        check::required(causes, &format!("{path}.name"), "");
    }
    let key = text(selector, "key");
    if key.is_empty() {
        check::required(causes, &format!("{path}.key"), "");
    } else {
        check::config_key(causes, &format!("{path}.key"), key);
    }
}

fn check_env_from(source: &Value, path: &str, causes: &mut Causes) {
    let prefix = text(source, "prefix");
    if !prefix.is_empty() {
        check::env_name(causes, &format!("{path}.prefix"), prefix);
    }
    let kinds = ["configMapRef", "secretRef"];
    for kind in kinds.iter().filter(|kind| has(source, kind)) {
        let name = text(&source[*kind], "name");
        if name.is_empty() {
            check::required(causes, &format!("{path}.{kind}.name"), "");
        } else {
            check::dns_subdomain(causes, &format!("{path}.{kind}.name"), name);
        }
    }
    match kinds.iter().filter(|kind| has(source, kind)).count() {
        0 => check::invalid(causes, path, &"".into(), "must specify one of: `configMapRef` or `secretRef`"),
        1 => {}
        _ => check::invalid(causes, path, &"".into(), "may not have more than one field specified at a time"),
    }
}

/// A field of the pod: one of `fields`, or a label or annotation by its key.
pub(super) fn field_ref(field: &Value, path: &str, fields: &[&str], causes: &mut Causes) {
    if is_empty(field, "apiVersion") {
        check::required(causes, &format!("{path}.apiVersion"), "");
        return;
    }
    let name = text(field, "fieldPath");
    if name.is_empty() {
        check::required(causes, &format!("{path}.fieldPath"), "");
        return;
    }
    let subscript = name.strip_suffix(']').and_then(|name| name.split_once("['"));
    if let Some((map, key)) = subscript {
        if matches!(map, "metadata.labels" | "metadata.annotations") {
            check::qualified_name(causes, path, key.trim_end_matches('\''));
            return;
        }
        check::invalid(causes, path, &map.into(), "does not support subscript");
        return;
    }
    check::one_of(causes, &format!("{path}.fieldPath"), name, fields);
}

/// A resource of a container; in volumes the container has to be named.
pub(super) fn resource_field_ref(field: &Value, path: &str, named: bool, causes: &mut Causes) {
    if named && is_empty(field, "containerName") {
        check::required(causes, &format!("{path}.containerName"), "");
    }
    let resource = text(field, "resource");
    if resource.is_empty() {
        check::required(causes, &format!("{path}.resource"), "");
        return;
    }
    if !resource.starts_with("limits.hugepages-") && !resource.starts_with("requests.hugepages-") {
        let supported = [
            "limits.cpu",
            "limits.ephemeral-storage",
            "limits.memory",
            "requests.cpu",
            "requests.ephemeral-storage",
            "requests.memory",
        ];
        check::one_of(causes, &format!("{path}.resource"), resource, &supported);
    }
    let divisor = crate::json::at(field, "divisor");
    if !divisor.is_null() {
        check::quantity(causes, &format!("{path}.divisor"), divisor);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::container_errors;
    use serde_json::{json, Value};

    fn env(variable: Value) -> Vec<String> {
        container_errors("env", json!([variable]))
    }

    #[test]
    fn names() {
        assert_eq!(env(json!({})), vec!["spec.containers[0].env[0].name: Required value"]);
        assert_eq!(env(json!({"name": "a=b"})).len(), 1);
        assert!(env(json!({"name": "A_B.c-1", "value": "x"})).is_empty());
    }

    #[test]
    fn sources() {
        let from = |source: Value| env(json!({"name": "a", "valueFrom": source}));
        assert!(from(json!({"fieldRef": {"fieldPath": "metadata.labels['app']"}})).is_empty());
        assert!(from(json!({"secretKeyRef": {"name": "s", "key": "k"}})).is_empty());
        assert_eq!(
            from(json!({})),
            vec![
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, \
                 `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            ]
        );
        assert_eq!(from(json!({"fieldRef": {"fieldPath": "spec.x"}})).len(), 1);
        assert_eq!(
            from(json!({"configMapKeyRef": {"name": "s"}})),
            vec!["spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Required value"]
        );
        assert_eq!(from(json!({"resourceFieldRef": {"resource": "limits.gpu"}})).len(), 1);
        assert_eq!(
            env(json!({"name": "a", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})),
            vec!["spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"]
        );
    }

    #[test]
    fn whole_maps() {
        let from = |source: Value| container_errors("envFrom", json!([source]));
        assert!(from(json!({"prefix": "A_", "configMapRef": {"name": "c"}})).is_empty());
        assert_eq!(from(json!({})).len(), 1);
        assert_eq!(from(json!({"secretRef": {}})).len(), 1);
    }
}
