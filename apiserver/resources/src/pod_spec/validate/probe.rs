//! The rules of probes and lifecycle hooks.

use keelstone_machinery::field::Causes;
use keelstone_machinery::validation;
use serde_json::Value;

use crate::check;
use crate::json::{at, has, int, is_empty, items, text};

pub fn check_all(container: &Value, path: &str, causes: &mut Causes) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if has(container, name) {
            check_probe(at(container, name), name, &format!("{path}.{name}"), causes);
        }
    }
}

fn check_probe(probe: &Value, name: &str, path: &str, causes: &mut Causes) {
    handler(probe, path, true, causes);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        check::not_negative(causes, &format!("{path}.{field}"), int(probe, field));
    }
    let success = int(probe, "successThreshold");
    if name != "readinessProbe" && success.is_some_and(|count| count != 1) {
        check::invalid(causes, &format!("{path}.successThreshold"), at(probe, "successThreshold"), "must be 1");
    }
    let grace = int(probe, "terminationGracePeriodSeconds");
    let grace_path = format!("{path}.terminationGracePeriodSeconds");
    match (name, grace) {
        ("readinessProbe", Some(seconds)) => {
            check::invalid(causes, &grace_path, &seconds.into(), "must not be set for readinessProbes");
        }
        _ => check::positive(causes, &grace_path, grace),
    }
}

pub fn lifecycle(container: &Value, path: &str, causes: &mut Causes) {
    for hook in ["postStart", "preStop"] {
        let value = at(container, "lifecycle").get(hook).filter(|hook| !hook.is_null());
        if let Some(value) = value {
            handler(value, &format!("{path}.lifecycle.{hook}"), false, causes);
        }
    }
}

/// One way of asking the container, and no more.
fn handler(handler: &Value, path: &str, probe: bool, causes: &mut Causes) {
    let kinds =
        if probe { ["exec", "httpGet", "tcpSocket", "grpc"] } else { ["exec", "httpGet", "tcpSocket", "sleep"] };
    let mut found = 0;
    for kind in kinds.into_iter().filter(|kind| has(handler, kind)) {
        found += 1;
        let path = format!("{path}.{kind}");
        if found > 1 {
            check::forbidden(causes, &path, "may not specify more than 1 handler type");
        } else {
            action(at(handler, kind), kind, &path, causes);
        }
    }
    if found == 0 {
        check::required(causes, path, "must specify a handler type");
    }
}

fn action(action: &Value, kind: &str, path: &str, causes: &mut Causes) {
    match kind {
        "exec" => {
            if is_empty(action, "command") {
                check::required(causes, &format!("{path}.command"), "");
            }
        }
        "httpGet" => http_get(action, path, causes),
        "grpc" => check::port(causes, &format!("{path}.port"), int(action, "port").unwrap_or(0)),
        "tcpSocket" => check::port_or_name(causes, &format!("{path}.port"), at(action, "port")),
        _ => check::not_negative(causes, &format!("{path}.seconds"), int(action, "seconds")),
    }
}

fn http_get(action: &Value, path: &str, causes: &mut Causes) {
    if is_empty(action, "path") {
        check::required(causes, &format!("{path}.path"), "");
    }
    check::port_or_name(causes, &format!("{path}.port"), at(action, "port"));
    check::one_of(causes, &format!("{path}.scheme"), text(action, "scheme"), &["HTTP", "HTTPS"]);
    for (index, header) in items(action, "httpHeaders").iter().enumerate() {
        let name = text(header, "name");
        for message in validation::http_header_name(name) {
            check::invalid(causes, &format!("{path}.httpHeaders[{index}]"), &name.into(), &message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::container_errors;
    use serde_json::{json, Value};

    #[test]
    fn one_handler() {
        let liveness = |probe: Value| container_errors("livenessProbe", probe);
        assert_eq!(
            liveness(json!({})),
            vec!["spec.containers[0].livenessProbe: Required value: must specify a handler type"]
        );
        assert_eq!(
            liveness(json!({"exec": {"command": ["a"]}, "tcpSocket": {"port": 80}})),
            vec!["spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]
        );
        assert_eq!(
            liveness(json!({"exec": {}})),
            vec!["spec.containers[0].livenessProbe.exec.command: Required value"]
        );
        assert_eq!(liveness(json!({"httpGet": {"port": 0}})).len(), 1);
        assert!(liveness(json!({"httpGet": {"port": "http"}})).is_empty());
        assert_eq!(
            liveness(json!({"httpGet": {"port": 80, "scheme": "x", "httpHeaders": [{"name": "a b"}]}})).len(),
            2
        );
    }

    #[test]
    fn numbers() {
        let probe = |name: &str, field: &str, value: i64| {
            let mut probe = json!({"tcpSocket": {"port": 80}});
            probe[field] = value.into();
            container_errors(name, probe)
        };
        assert_eq!(probe("readinessProbe", "periodSeconds", -1).len(), 1);
        assert!(probe("readinessProbe", "successThreshold", 2).is_empty());
        assert_eq!(
            probe("livenessProbe", "successThreshold", 2),
            vec!["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"]
        );
        assert_eq!(probe("readinessProbe", "terminationGracePeriodSeconds", 1).len(), 1);
        assert_eq!(probe("startupProbe", "terminationGracePeriodSeconds", 0).len(), 1);
    }

    #[test]
    fn hooks() {
        assert!(container_errors("lifecycle", json!({"preStop": {"exec": {"command": ["a"]}}})).is_empty());
        assert_eq!(
            container_errors("lifecycle", json!({"preStop": {}})),
            vec!["spec.containers[0].lifecycle.preStop: Required value: must specify a handler type"]
        );
    }
}
