//! The rules of services.

use std::collections::BTreeSet;

use keelstone_machinery::field::Causes;
use serde_json::{json, Value};

use crate::check;
use crate::constants::SESSION_AFFINITY_S_MAX;
use crate::json::{at, has, int, is_empty, items, text};

const NONE: &str = "None";

pub fn service(object: &Value, causes: &mut Causes) {
    let kind = text(object, "spec.type");
    let cluster_ip = text(object, "spec.clusterIP");
    check::required_one_of(causes, "spec.type", kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    if is_empty(object, "spec.ports") && cluster_ip != NONE && kind != "ExternalName" {
        check::required(causes, "spec.ports", "");
    }
    check_type(object, kind, cluster_ip, causes);
    check_ports(object, kind, causes);
    check::labels(causes, "spec.selector", object, "spec.selector");
    check_affinity(object, causes);
    check_addresses(object, kind, causes);
    check_traffic_policies(object, kind, causes);
}

fn check_type(object: &Value, kind: &str, cluster_ip: &str, causes: &mut Causes) {
    match kind {
        "LoadBalancer" | "NodePort" if cluster_ip == NONE => {
            let detail = format!("may not be set to 'None' for {kind} services");
            check::invalid(causes, "spec.clusterIPs[0]", &NONE.into(), &detail);
        }
        "ExternalName" => {
            if !cluster_ip.is_empty() {
                check::forbidden(causes, "spec.clusterIPs", "may not be set for ExternalName services");
            }
            let name = text(object, "spec.externalName").trim_end_matches('.');
            if name.is_empty() {
                check::required(causes, "spec.externalName", "");
            } else {
                check::dns_subdomain(causes, "spec.externalName", name);
            }
        }
        _ => {}
    }
}

fn check_ports(object: &Value, kind: &str, causes: &mut Causes) {
    let ports = items(object, "spec.ports");
    let (mut names, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let (name, protocol) = (text(port, "name"), text(port, "protocol"));
        if name.is_empty() && ports.len() > 1 {
            check::required(causes, &format!("{path}.name"), "");
        } else if !name.is_empty() {
            check::dns_label(causes, &format!("{path}.name"), name);
            if !names.insert(name) {
                check::duplicate(causes, &format!("{path}.name"), name);
            }
        }
        let number = int(port, "port").unwrap_or(0);
        check::port(causes, &format!("{path}.port"), number);
        check::protocol(causes, &format!("{path}.protocol"), protocol);
        check::port_or_name(causes, &format!("{path}.targetPort"), at(port, "targetPort"));
        if !numbers.insert((number, protocol)) {
            causes.duplicate(&path.as_str().into(), json!({"port": number, "protocol": protocol}));
        }
        let node_port = int(port, "nodePort").unwrap_or(0);
        if node_port == 0 {
            continue;
        }
        if matches!(kind, "ClusterIP" | "ExternalName") {
            let detail = format!("may not be used when `type` is '{kind}'");
            check::forbidden(causes, &format!("{path}.nodePort"), &detail);
        } else if !node_ports.insert((node_port, protocol)) {
            causes.duplicate(&format!("{path}.nodePort").as_str().into(), node_port);
        }
    }
}

fn check_affinity(object: &Value, causes: &mut Causes) {
    let affinity = text(object, "spec.sessionAffinity");
    check::required_one_of(causes, "spec.sessionAffinity", affinity, &["ClientIP", "None"]);
    let timeout = int(object, "spec.sessionAffinityConfig.clientIP.timeoutSeconds");
    if let Some(timeout) = timeout.filter(|t| !(1..=SESSION_AFFINITY_S_MAX).contains(t)) {
        let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        let detail = format!("must be greater than 0 and less than {SESSION_AFFINITY_S_MAX}");
        check::invalid(causes, path, &timeout.into(), &detail);
    }
}

fn check_addresses(object: &Value, kind: &str, causes: &mut Causes) {
    for (index, address) in items(object, "spec.externalIPs").iter().enumerate() {
        check::ip(causes, &format!("spec.externalIPs[{index}]"), address.as_str().unwrap_or(""));
    }
    let addresses = items(object, "spec.clusterIPs");
    let single = text(object, "spec.clusterIP");
    let first = addresses.first().and_then(Value::as_str).unwrap_or("");
    if !addresses.is_empty() && first != single {
        let detail = "first value must match `clusterIP`";
        check::invalid(causes, "spec.clusterIPs[0]", &first.into(), detail);
    }
    for (index, address) in addresses.iter().enumerate() {
        let address = address.as_str().unwrap_or("");
        if address != NONE {
            check::ip(causes, &format!("spec.clusterIPs[{index}]"), address);
        }
    }
    if kind == "ExternalName" {
        return;
    }
    // Only one family is served; a service that asks for two is refused, not served in part.
    if has(object, "spec.ipFamilyPolicy") && text(object, "spec.ipFamilyPolicy") == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        check::invalid(causes, "spec.ipFamilyPolicy", at(object, "spec.ipFamilyPolicy"), detail);
    }
    for (index, family) in items(object, "spec.ipFamilies").iter().enumerate() {
        let path = format!("spec.ipFamilies[{index}]");
        check::one_of(causes, &path, family.as_str().unwrap_or(""), &["IPv4", "IPv6"]);
        if index > 0 {
            let detail = "may only hold 1 value, as the cluster serves one family";
            check::invalid(causes, &path, family, detail);
        }
    }
}

fn check_traffic_policies(object: &Value, kind: &str, causes: &mut Causes) {
    let external = text(object, "spec.externalTrafficPolicy");
    let reachable = matches!(kind, "NodePort" | "LoadBalancer") || !is_empty(object, "spec.externalIPs");
    if !external.is_empty() {
        check::one_of(causes, "spec.externalTrafficPolicy", external, &["Cluster", "Local"]);
        if !reachable {
            let detail = "may only be set for externally-accessible services";
            check::invalid(causes, "spec.externalTrafficPolicy", &external.into(), detail);
        }
    } else if reachable {
        check::required(causes, "spec.externalTrafficPolicy", "");
    }
    let internal = text(object, "spec.internalTrafficPolicy");
    if !internal.is_empty() {
        check::one_of(causes, "spec.internalTrafficPolicy", internal, &["Cluster", "Local"]);
    }
    if kind != "LoadBalancer" && has(object, "spec.allocateLoadBalancerNodePorts") {
        check::forbidden(
            causes,
            "spec.allocateLoadBalancerNodePorts",
            "may only be used when `type` is 'LoadBalancer'",
        );
    }
}

/// The cluster address stays for as long as the service is of a type that has one.
pub fn update(new: &Value, old: &Value, causes: &mut Causes) {
    let external = |object| text(object, "spec.type") == "ExternalName";
    if external(new) || external(old) || is_empty(old, "spec.clusterIP") {
        return;
    }
    if text(new, "spec.clusterIP") != text(old, "spec.clusterIP") {
        check::invalid(causes, "spec.clusterIPs[0]", at(new, "spec.clusterIPs"), "may not change once set");
    }
}

#[cfg(test)]
mod tests {
    use crate::core::service::Services;
    use crate::testing::{errors, update_errors};
    use serde_json::json;

    #[test]
    fn ports() {
        let of = |spec| errors(&Services, json!({"spec": spec}));
        assert_eq!(of(json!({})), vec!["spec.ports: Required value"]);
        assert!(of(json!({"clusterIP": "None"})).is_empty());
        assert_eq!(
            of(json!({"ports": [{"port": 80, "name": "a"}, {"port": 80, "nodePort": 30000}]})),
            vec![
                "spec.ports[1].name: Required value",
                "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
                "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            ]
        );
        assert_eq!(
            of(json!({"ports": [{"port": 0, "targetPort": "x"}]})),
            vec!["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"]
        );
    }

    #[test]
    fn types() {
        let of = |spec| errors(&Services, json!({"spec": spec}));
        assert_eq!(of(json!({"type": "ExternalName"})), vec!["spec.externalName: Required value"]);
        assert!(of(json!({"type": "X", "ports": [{"port": 1}]}))[0].starts_with("spec.type: Unsupported value: \"X\""));
        assert_eq!(of(json!({"type": "NodePort", "clusterIP": "None"})).len(), 1);
    }

    #[test]
    fn affinity_at_the_limit() {
        let of = |timeout: i64| {
            let config = json!({"clientIP": {"timeoutSeconds": timeout}});
            errors(
                &Services,
                json!({"spec": {"ports": [{"port": 1}], "sessionAffinity": "ClientIP", "sessionAffinityConfig": config}}),
            )
        };
        assert!(of(86_400).is_empty() && of(1).is_empty());
        assert_eq!((of(86_401).len(), of(0).len()), (1, 1));
    }

    #[test]
    fn the_address_stays() {
        let spec =
            |address: &str| json!({"spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address]}});
        assert_eq!(
            update_errors(&Services, spec("10.0.0.2"), spec("10.0.0.1")),
            vec!["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
        );
        assert!(update_errors(&Services, spec("10.0.0.1"), spec("10.0.0.1")).is_empty());
    }
}
