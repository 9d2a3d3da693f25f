use keelstone_machinery::{field::Causes, ResourceInfo, SubresourceInfo};
use keelstone_registry::{Column, Resource, WriteContext};
use serde_json::{json, Value};

use super::service_validation;
use crate::check;
use crate::columns::{self, column, wide, NONE, UNKNOWN};
use crate::json::{
    at, child, copy, default_if_absent, default_if_zero, get_mut, has, int, is_empty, items, items_mut, remove, set,
    text,
};
use crate::strategy;

/// Service, v1. Cluster addresses and node ports are allocated by the server before the strategy runs.
pub struct Services;

static INFO: ResourceInfo = ResourceInfo {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: SUBRESOURCES,
};

static SUBRESOURCES: &[SubresourceInfo] = &[strategy::status("", "v1", "Service")];

static COLUMNS: &[Column] = &[
    columns::NAME,
    column("Type", "string", "How the service is exposed."),
    column("Cluster-IP", "string", "The address of the service inside the cluster."),
    column("External-IP", "string", "Addresses of the service from outside."),
    column("Port(s)", "string", "The ports of the service."),
    columns::AGE,
    wide("Selector", "string", "The labels of the pods that answer."),
];

const AFFINITY_TIMEOUT_S: i64 = 10_800;

fn is_external(kind: &str) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer")
}

fn default_affinity(spec: &mut Value) {
    default_if_zero(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => remove(spec, "sessionAffinityConfig"),
        "ClientIP" if int(spec, "sessionAffinityConfig.clientIP.timeoutSeconds").is_none() => {
            set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": AFFINITY_TIMEOUT_S}}));
        }
        _ => {}
    }
}

fn default_port(port: &mut Value) {
    default_if_zero(port, "protocol", "TCP");
    if let Some(number) = int(port, "port") {
        default_if_zero(port, "targetPort", number);
    }
}

/// clusterIP and the first of clusterIPs are one field in two places.
fn join_cluster_ips(spec: &mut Value) {
    let single = text(spec, "clusterIP").to_owned();
    let first = items(spec, "clusterIPs").first().and_then(Value::as_str).unwrap_or("").to_owned();
    if single.is_empty() && !first.is_empty() && !has(spec, "clusterIP") {
        set(spec, "clusterIP", first);
    } else if !single.is_empty() && first.is_empty() {
        set(spec, "clusterIPs", json!([single]));
    }
}

/// What the server sets for the only family that it serves.
fn default_families(spec: &mut Value) {
    if text(spec, "type") == "ExternalName" {
        return;
    }
    default_if_absent(spec, "ipFamilyPolicy", "SingleStack");
    if is_empty(spec, "ipFamilies") {
        let six = text(spec, "clusterIP").contains(':');
        set(spec, "ipFamilies", json!([if six { "IPv6" } else { "IPv4" }]));
    }
}

/// Carries over what was allocated, where the update does not say otherwise.
fn keep_allocated(spec: &mut Value, old: &Value) {
    let old_spec = at(old, "spec");
    let kind = text(spec, "type").to_owned();
    let old_kind = text(old_spec, "type");
    if kind != "ExternalName" && old_kind != "ExternalName" {
        if is_empty(spec, "clusterIP") && is_empty(spec, "clusterIPs") {
            copy(spec, old_spec, "clusterIP");
            copy(spec, old_spec, "clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if is_empty(spec, key) {
                copy(spec, old_spec, key);
            }
        }
    }
    if is_external(&kind) && is_external(old_kind) {
        for port in items_mut(spec, "ports") {
            let same =
                |p: &&Value| int(p, "port") == int(port, "port") && text(p, "protocol") == text(port, "protocol");
            let number = items(old_spec, "ports").iter().find(same).and_then(|p| int(p, "nodePort"));
            if let Some(number) = number {
                default_if_zero(port, "nodePort", number);
            }
        }
    }
}

/// Drops what the new type has no use for, if the client did not change it itself.
fn drop_unused(spec: &mut Value, old: &Value) {
    let kind = text(spec, "type").to_owned();
    let old_spec = at(old, "spec");
    if kind == text(old_spec, "type") {
        return;
    }
    if kind == "ExternalName" && check::same(at(spec, "clusterIP"), at(old_spec, "clusterIP")) {
        ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]
            .iter()
            .for_each(|key| remove(spec, key));
    }
    if !is_external(&kind) {
        for port in items_mut(spec, "ports") {
            let unchanged = items(old_spec, "ports").iter().any(|p| int(p, "nodePort") == int(port, "nodePort"));
            if unchanged {
                remove(port, "nodePort");
            }
        }
        if check::same(at(spec, "externalTrafficPolicy"), at(old_spec, "externalTrafficPolicy")) {
            remove(spec, "externalTrafficPolicy");
        }
    }
    if kind != "LoadBalancer" {
        remove(spec, "allocateLoadBalancerNodePorts");
    }
}

fn ports(object: &Value) -> String {
    let shown: Vec<String> = items(object, "spec.ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (int(port, "port").unwrap_or(0), text(port, "protocol"));
            match int(port, "nodePort") {
                Some(node_port) if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
                _ => format!("{number}/{protocol}"),
            }
        })
        .collect();
    if shown.is_empty() {
        NONE.into()
    } else {
        shown.join(",")
    }
}

fn external_addresses(object: &Value) -> String {
    let external: Vec<&str> = items(object, "spec.externalIPs").iter().filter_map(Value::as_str).collect();
    match text(object, "spec.type") {
        "ExternalName" => text(object, "spec.externalName").to_owned(),
        "ClusterIP" | "NodePort" if external.is_empty() => NONE.into(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let mut addresses: Vec<&str> = items(object, "status.loadBalancer.ingress")
                .iter()
                .map(|ingress| if has(ingress, "ip") { text(ingress, "ip") } else { text(ingress, "hostname") })
                .collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses.extend(external);
            if addresses.is_empty() {
                "<pending>".into()
            } else {
                addresses.join(",")
            }
        }
        _ => UNKNOWN.into(),
    }
}

impl Resource for Services {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        default_affinity(spec);
        default_if_zero(spec, "type", "ClusterIP");
        items_mut(spec, "ports").for_each(default_port);
        let kind = text(spec, "type").to_owned();
        if is_external(&kind) || (kind == "ClusterIP" && !is_empty(spec, "externalIPs")) {
            default_if_zero(spec, "externalTrafficPolicy", "Cluster");
        }
        if is_external(&kind) || kind == "ClusterIP" {
            default_if_absent(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            default_if_absent(spec, "allocateLoadBalancerNodePorts", true);
        }
    }

    fn prepare_for_create(&self, _context: &WriteContext, object: &mut Value) {
        set(object, "status", json!({"loadBalancer": {}}));
        if let Some(spec) = get_mut(object, "spec") {
            join_cluster_ips(spec);
            default_families(spec);
        }
    }

    fn prepare_for_update(&self, context: &WriteContext, new: &mut Value, old: &Value) {
        strategy::separate_status(context, new, old);
        if context.subresource == "status" {
            return;
        }
        if let Some(spec) = get_mut(new, "spec") {
            keep_allocated(spec, old);
            drop_unused(spec, old);
            join_cluster_ips(spec);
            default_families(spec);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        service_validation::service(object, causes);
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        service_validation::update(new, old, causes);
    }

    fn fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn field(&self, object: &Value, path: &str) -> Option<String> {
        self.fields().contains(&path).then(|| text(object, path).to_owned())
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        keelstone_machinery::validation::dns1035_label(name)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        vec![
            columns::name(object),
            text(object, "spec.type").into(),
            columns::or_none(text(object, "spec.clusterIP")),
            external_addresses(object).into(),
            ports(object).into(),
            columns::age(object, now_unix_s),
            columns::labels(object, "spec.selector").into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cells, context};

    fn created(mut object: Value) -> Value {
        Services.default(&mut object);
        Services.prepare_for_create(&context(""), &mut object);
        object
    }

    #[test]
    fn defaults_of_a_cluster_service() {
        assert_eq!(
            created(json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}})),
            json!({
                "spec": {
                    "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "selector": {"a": "b"},
                    "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                    "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                },
                "status": {"loadBalancer": {}},
            })
        );
    }

    #[test]
    fn defaults_follow_the_type() {
        let headless = created(json!({"spec": {"clusterIP": "None"}}));
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
        let node_port = created(json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}}));
        assert_eq!(node_port["spec"]["externalTrafficPolicy"], "Cluster");
        let external = created(json!({"spec": {"type": "ExternalName", "externalName": "x.org"}}));
        assert_eq!(external["spec"].get("ipFamilies"), None);
    }

    #[test]
    fn updates_keep_what_was_allocated() {
        let mut old = created(json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]}}));
        old["spec"]["clusterIP"] = "10.0.0.5".into();
        old["spec"]["clusterIPs"] = json!(["10.0.0.5"]);
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}});
        Services.default(&mut new);
        Services.prepare_for_update(&context(""), &mut new, &old);
        assert_eq!(new["spec"]["clusterIP"], "10.0.0.5");
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
        assert_eq!(new["spec"]["ports"][1].get("nodePort"), None);
        let mut inner = old.clone();
        inner["spec"]["type"] = "ClusterIP".into();
        Services.default(&mut inner);
        Services.prepare_for_update(&context(""), &mut inner, &old);
        assert_eq!(inner["spec"]["ports"][0].get("nodePort"), None);
        assert_eq!(inner["spec"].get("externalTrafficPolicy"), None);
        assert_eq!(inner["spec"]["clusterIP"], "10.0.0.5");
    }

    #[test]
    fn rows() {
        let mut object = created(json!({"metadata": {"name": "a"}, "spec": {
            "type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}, {"port": 53, "protocol": "UDP"}], "selector": {"a": "b"}}}));
        object["spec"]["clusterIP"] = "10.0.0.5".into();
        let expected = ["a", "NodePort", "10.0.0.5", "<none>", "80:30001/TCP,53/UDP", "<unknown>", "a=b"];
        assert_eq!(cells(&Services, &object, 0), expected);
        let balancer = created(json!({"spec": {"type": "LoadBalancer"}}));
        assert_eq!(cells(&Services, &balancer, 0)[3], "<pending>");
        let external = created(json!({"spec": {"type": "ExternalName", "externalName": "x.org"}}));
        assert_eq!(cells(&Services, &external, 0)[2..5], ["<none>", "x.org", "<none>"]);
    }
}
