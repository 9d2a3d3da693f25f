//! Defaults of a pod's specification, as Kubernetes' v1 defaulting functions have them. `pod_spec` applies to
//! pods and templates alike; `pod_only` to pods, after it.

use keelstone_machinery::quantity::Quantity;
use serde_json::{json, Map, Value};

use super::image::default_pull_policy;
use crate::json::{at, child, default_if_absent, default_if_zero, flag, get_mut, int, items_mut, set, text};

const TERMINATION_GRACE_PERIOD_S: i64 = 30;
const TOKEN_EXPIRATION_S: i64 = 3600;
/// 0644 in decimal, as JSON has no octal numbers.
const VOLUME_MODE: i64 = 420;

/// Fills the defaults of a pod template (`spec.template`).
pub fn template(template: &mut Value) {
    if let Some(spec) = child(template, "spec") {
        pod_spec(spec);
    }
}

/// Fills the defaults that pods and pod templates share.
pub fn pod_spec(spec: &mut Value) {
    default_if_zero(spec, "dnsPolicy", "ClusterFirst");
    default_if_zero(spec, "restartPolicy", "Always");
    default_if_absent(spec, "securityContext", json!({}));
    default_if_absent(spec, "terminationGracePeriodSeconds", TERMINATION_GRACE_PERIOD_S);
    default_if_zero(spec, "schedulerName", "default-scheduler");
    // The older name of serviceAccountName follows it.
    if !text(spec, "serviceAccountName").is_empty() {
        let name = text(spec, "serviceAccountName").to_owned();
        set(spec, "serviceAccount", name);
    } else if !text(spec, "serviceAccount").is_empty() {
        let name = text(spec, "serviceAccount").to_owned();
        set(spec, "serviceAccountName", name);
    }
    let host_network = flag(spec, "hostNetwork");
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items_mut(spec, list) {
            self::container(container, host_network);
        }
    }
    for volume in items_mut(spec, "volumes") {
        self::volume(volume);
    }
}

/// Fills the defaults that only pods have, not templates.
pub fn pod_only(spec: &mut Value) {
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            if let Some(resources) = get_mut(container, "resources") {
                requests_from_limits(resources);
            }
        }
    }
    default_if_absent(spec, "enableServiceLinks", true);
}

/// Amounts finer than a thousandth are rounded up, as the API has always kept them.
fn round_up(resources: &mut Value) {
    for list in ["limits", "requests"] {
        for amount in get_mut(resources, list).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            let Ok(exact) = Quantity::from_value(amount) else { continue };
            let rounded = Quantity::from_milli(exact.milli());
            if rounded > exact && exact.milli() != i64::MAX {
                *amount = rounded.to_string().into();
            }
        }
    }
}

fn requests_from_limits(resources: &mut Value) {
    let Some(limits) = at(resources, "limits").as_object().cloned() else { return };
    let Some(requests) = child(resources, "requests") else { return };
    for (name, limit) in limits {
        default_if_absent(requests, &name, limit);
    }
}

fn container(container: &mut Value, host_network: bool) {
    let pull_policy = default_pull_policy(text(container, "image"));
    default_if_zero(container, "imagePullPolicy", pull_policy);
    default_if_zero(container, "terminationMessagePath", "/dev/termination-log");
    default_if_zero(container, "terminationMessagePolicy", "File");
    default_if_absent(container, "resources", json!({}));
    if let Some(resources) = get_mut(container, "resources") {
        round_up(resources);
    }
    for port in items_mut(container, "ports") {
        default_if_zero(port, "protocol", "TCP");
        if host_network {
            if let Some(number) = int(port, "containerPort") {
                default_if_zero(port, "hostPort", number);
            }
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = get_mut(container, probe).filter(|p| p.is_object()) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = get_mut(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = get_mut(lifecycle, hook) {
                http_get(hook);
            }
        }
    }
    for variable in items_mut(container, "env") {
        if let Some(source) = get_mut(variable, "valueFrom") {
            field_ref(source);
            resource_field_ref(source);
        }
    }
}

fn probe(probe: &mut Value) {
    default_if_zero(probe, "timeoutSeconds", 1);
    default_if_zero(probe, "periodSeconds", 10);
    default_if_zero(probe, "successThreshold", 1);
    default_if_zero(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = get_mut(probe, "grpc").filter(|g| g.is_object()) {
        default_if_absent(grpc, "service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(action) = get_mut(handler, "httpGet").filter(|a| a.is_object()) {
        default_if_zero(action, "path", "/");
        default_if_zero(action, "scheme", "HTTP");
    }
}

fn field_ref(source: &mut Value) {
    if let Some(field) = get_mut(source, "fieldRef").filter(|f| f.is_object()) {
        default_if_zero(field, "apiVersion", "v1");
    }
}

fn resource_field_ref(source: &mut Value) {
    if let Some(field) = get_mut(source, "resourceFieldRef").filter(|f| f.is_object()) {
        default_if_absent(field, "divisor", "0");
    }
}

fn volume(volume: &mut Value) {
    let Some(map) = volume.as_object_mut() else { return };
    let mut sources = map.iter().filter(|(key, value)| *key != "name" && !value.is_null());
    if sources.next().is_none() {
        map.insert("emptyDir".into(), Value::Object(Map::new()));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = get_mut(volume, source).filter(|s| s.is_object()) {
            default_if_absent(source, "defaultMode", VOLUME_MODE);
        }
    }
    if let Some(path) = get_mut(volume, "hostPath").filter(|s| s.is_object()) {
        default_if_absent(path, "type", "");
    }
    if let Some(image) = get_mut(volume, "image").filter(|s| s.is_object()) {
        let policy = default_pull_policy(text(image, "reference"));
        default_if_zero(image, "pullPolicy", policy);
    }
    if let Some(downward) = get_mut(volume, "downwardAPI") {
        downward_items(downward);
    }
    if let Some(projected) = get_mut(volume, "projected") {
        for source in items_mut(projected, "sources") {
            if let Some(token) = get_mut(source, "serviceAccountToken").filter(|t| t.is_object()) {
                default_if_absent(token, "expirationSeconds", TOKEN_EXPIRATION_S);
            }
            if let Some(downward) = get_mut(source, "downwardAPI") {
                downward_items(downward);
            }
        }
    }
    if let Some(claim) = get_mut(volume, "ephemeral").and_then(|e| get_mut(e, "volumeClaimTemplate")) {
        if let Some(spec) = get_mut(claim, "spec").filter(|s| s.is_object()) {
            default_if_absent(spec, "volumeMode", "Filesystem");
        }
    }
    if let Some(iscsi) = get_mut(volume, "iscsi").filter(|s| s.is_object()) {
        default_if_zero(iscsi, "iscsiInterface", "default");
    }
}

fn downward_items(source: &mut Value) {
    for item in items_mut(source, "items") {
        field_ref(item);
        resource_field_ref(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimal_pod_is_filled() {
        let mut spec = json!({"containers": [{
            "name": "a", "image": "nginx", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1"}},
            "livenessProbe": {"httpGet": {"port": 80}},
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        }], "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}]});
        pod_spec(&mut spec);
        pod_only(&mut spec);
        assert_eq!(
            spec,
            json!({
                "containers": [{
                    "name": "a", "image": "nginx", "imagePullPolicy": "Always",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                    "livenessProbe": {
                        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                    },
                    "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP", "apiVersion": "v1"}}}],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
                "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "enableServiceLinks": true,
            })
        );
    }

    #[test]
    fn templates_keep_requests_and_links_unset() {
        let mut spec = json!({"containers": [{"name": "a", "image": "b:1", "resources": {"limits": {"cpu": "1"}}}]});
        pod_spec(&mut spec);
        assert_eq!(at(&spec, "enableServiceLinks"), &Value::Null);
        assert_eq!(spec["containers"][0]["resources"], json!({"limits": {"cpu": "1"}}));
    }

    #[test]
    fn amounts_are_rounded_up_to_thousandths() {
        let mut spec = json!({"containers": [{"resources": {"limits": {"cpu": "100u", "memory": "1Gi"}}}]});
        pod_spec(&mut spec);
        assert_eq!(spec["containers"][0]["resources"], json!({"limits": {"cpu": "1m", "memory": "1Gi"}}));
    }

    #[test]
    fn host_network_ports_are_host_ports() {
        let mut spec = json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80}]}]});
        pod_spec(&mut spec);
        assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], 80);
    }
}
