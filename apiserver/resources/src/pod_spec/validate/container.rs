//! The rules of containers.

use std::collections::BTreeSet;

use keelstone_machinery::field::Causes;
use serde_json::Value;

use super::{env, probe, resources, security};
use crate::check;
use crate::json::{at, has, int, is_empty, items, text};

/// Checks all containers. `volumes` are the names that may be mounted.
pub fn check_all(spec: &Value, path: &str, volumes: &BTreeSet<&str>, causes: &mut Causes) {
    if is_empty(spec, "containers") {
        check::required(causes, &format!("{path}.containers"), "");
    }
    let mut names = BTreeSet::new();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in items(spec, list).iter().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            let name = text(container, "name");
            if !name.is_empty() && !names.insert(name) {
                check::duplicate(causes, &format!("{path}.name"), name);
            }
            check_common(container, &path, volumes, causes);
            match list {
                "containers" => check_main(container, &path, causes),
                "initContainers" => check_init(container, &path, causes),
                _ => {}
            }
        }
    }
}

fn check_common(container: &Value, path: &str, volumes: &BTreeSet<&str>, causes: &mut Causes) {
    let (name, image) = (text(container, "name"), text(container, "image"));
    if name.is_empty() {
        check::required(causes, &format!("{path}.name"), "");
    } else {
        check::dns_label(causes, &format!("{path}.name"), name);
    }
    if image.is_empty() {
        check::required(causes, &format!("{path}.image"), "");
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        check::invalid(causes, &format!("{path}.image"), &image.into(), detail);
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    check::required_one_of(causes, &format!("{path}.imagePullPolicy"), text(container, "imagePullPolicy"), &policies);
    let policies = ["FallbackToLogsOnError", "File"];
    let policy = text(container, "terminationMessagePolicy");
    check::required_one_of(causes, &format!("{path}.terminationMessagePolicy"), policy, &policies);
    check_ports(container, path, causes);
    check_mounts(container, path, volumes, causes);
    env::check(container, path, causes);
    resources::check(at(container, "resources"), &format!("{path}.resources"), causes);
    security::container(container, path, causes);
}

fn check_main(container: &Value, path: &str, causes: &mut Causes) {
    if has(container, "restartPolicy") {
        check::forbidden(causes, &format!("{path}.restartPolicy"), "may not be set for non-init containers");
    }
    probe::check_all(container, path, causes);
    probe::lifecycle(container, path, causes);
}

/// Only init containers that keep running can be probed.
fn check_init(container: &Value, path: &str, causes: &mut Causes) {
    if has(container, "restartPolicy") {
        check::one_of(causes, &format!("{path}.restartPolicy"), text(container, "restartPolicy"), &["Always"]);
        probe::check_all(container, path, causes);
        probe::lifecycle(container, path, causes);
        return;
    }
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if has(container, field) {
            let detail = "may not be set for init containers without restartPolicy=Always";
            check::forbidden(causes, &format!("{path}.{field}"), detail);
        }
    }
}

fn check_ports(container: &Value, path: &str, causes: &mut Causes) {
    let mut names = BTreeSet::new();
    for (index, port) in items(container, "ports").iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        let name = text(port, "name");
        if !name.is_empty() {
            check::port_name(causes, &format!("{path}.name"), name);
            if !names.insert(name) {
                check::duplicate(causes, &format!("{path}.name"), name);
            }
        }
        match int(port, "containerPort").unwrap_or(0) {
            0 => check::required(causes, &format!("{path}.containerPort"), ""),
            number => check::port(causes, &format!("{path}.containerPort"), number),
        }
        if let Some(number) = int(port, "hostPort").filter(|number| *number != 0) {
            check::port(causes, &format!("{path}.hostPort"), number);
        }
        check::protocol(causes, &format!("{path}.protocol"), text(port, "protocol"));
    }
}

fn check_mounts(container: &Value, path: &str, volumes: &BTreeSet<&str>, causes: &mut Causes) {
    let mut mounted = BTreeSet::new();
    for (index, mount) in items(container, "volumeMounts").iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            check::required(causes, &format!("{path}.name"), "");
        } else if !volumes.contains(name) {
            check::not_found(causes, &format!("{path}.name"), name);
        }
        if target.is_empty() {
            check::required(causes, &format!("{path}.mountPath"), "");
        } else if !mounted.insert(target) {
            check::invalid(causes, &format!("{path}.mountPath"), &target.into(), "must be unique");
        }
        let sub_path = text(mount, "subPath");
        if !sub_path.is_empty() {
            local_path(causes, &format!("{path}.subPath"), sub_path);
        }
        let expression = text(mount, "subPathExpr");
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                check::invalid(causes, &format!("{path}.subPathExpr"), &expression.into(), detail);
            }
            local_path(causes, &format!("{path}.subPathExpr"), expression);
        }
        if has(mount, "mountPropagation") {
            let supported = ["Bidirectional", "HostToContainer", "None"];
            let value = text(mount, "mountPropagation");
            check::one_of(causes, &format!("{path}.mountPropagation"), value, &supported);
        }
    }
}

/// A path that stays inside where it starts.
pub(super) fn local_path(causes: &mut Causes, path: &str, value: &str) {
    if value.starts_with('/') {
        check::invalid(causes, path, &value.into(), "must be a relative path");
    }
    if value.split('/').any(|part| part == "..") {
        check::invalid(causes, path, &value.into(), "must not contain '..'");
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{container_errors, errors};
    use serde_json::{json, Value};

    #[test]
    fn names_and_images() {
        assert_eq!(errors(|s| s["containers"] = json!([])), vec!["spec.containers: Required value"]);
        assert_eq!(container_errors("image", Value::Null), vec!["spec.containers[0].image: Required value"]);
        assert_eq!(container_errors("name", Value::Null), vec!["spec.containers[0].name: Required value"]);
        assert_eq!(
            container_errors("image", " a".into()),
            vec!["spec.containers[0].image: Invalid value: \" a\": must not have leading or trailing whitespace"]
        );
        assert_eq!(
            errors(|s| s["initContainers"] = json!([{"name": "c", "image": "i"}])),
            vec!["spec.initContainers[0].name: Duplicate value: \"c\""]
        );
        assert_eq!(
            container_errors("imagePullPolicy", "x".into()),
            vec!["spec.containers[0].imagePullPolicy: Unsupported value: \"x\": supported values: \"Always\", \"IfNotPresent\", \"Never\""]
        );
    }

    #[test]
    fn ports() {
        let ports = json!([{"containerPort": 80, "name": "a"}, {"name": "a"}, {"containerPort": 1, "protocol": "x"}]);
        assert_eq!(
            container_errors("ports", ports),
            vec![
                "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
                "spec.containers[0].ports[1].containerPort: Required value",
                "spec.containers[0].ports[2].protocol: Unsupported value: \"x\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ]
        );
    }

    #[test]
    fn mounts() {
        let of = |mounts: Value| {
            errors(|s| {
                s["volumes"] = json!([{"name": "v"}]);
                s["containers"][0]["volumeMounts"] = mounts;
            })
        };
        assert!(of(json!([{"name": "v", "mountPath": "/a", "subPath": "b"}])).is_empty());
        assert_eq!(
            of(
                json!([{"name": "w", "mountPath": "/a"}, {"name": "v", "mountPath": "/a", "subPath": "../b"}, {"name": "v"}])
            ),
            vec![
                "spec.containers[0].volumeMounts[0].name: Not found: \"w\"",
                "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
                "spec.containers[0].volumeMounts[1].subPath: Invalid value: \"../b\": must not contain '..'",
                "spec.containers[0].volumeMounts[2].mountPath: Required value",
            ]
        );
    }

    #[test]
    fn init_containers_have_no_probes_unless_they_stay() {
        let probe = json!({"exec": {"command": ["a"]}});
        let init = |policy: Value| {
            errors(|s| {
                s["initContainers"] =
                    json!([{"name": "i", "image": "i", "livenessProbe": probe, "restartPolicy": policy}]);
            })
        };
        assert!(init("Always".into()).is_empty());
        assert_eq!(
            init(Value::Null),
            vec!["spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"]
        );
        assert_eq!(container_errors("restartPolicy", "Always".into()).len(), 1);
    }
}
