use std::collections::BTreeSet;
use std::net::IpAddr;

use keelstone_machinery::{field::Causes, ResourceInfo};
use keelstone_registry::{Column, Resource};
use serde_json::Value;

use crate::check;
use crate::columns::{self, column};
use crate::constants::{ENDPOINT_ADDRESSES_MAX, SLICE_ENDPOINTS_MAX, SLICE_PORTS_MAX};
use crate::json::{at, default_if_absent, default_if_zero, int, items, items_mut, text};
use crate::strategy;

/// EndpointSlice, discovery.k8s.io/v1.
pub struct EndpointSlices;

static INFO: ResourceInfo = ResourceInfo {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: &[],
};

static COLUMNS: &[Column] = &[
    columns::NAME,
    column("AddressType", "string", "The form of the addresses."),
    column("Ports", "string", "The ports of all endpoints."),
    column("Endpoints", "string", "The addresses."),
    columns::AGE,
];

const UNSET: &str = "<unset>";

fn shown(list: &[String]) -> Value {
    if list.is_empty() {
        UNSET.into()
    } else {
        columns::at_most_three(list).into()
    }
}

fn check_endpoint(endpoint: &Value, kind: &str, path: &str, causes: &mut Causes) {
    let addresses = items(endpoint, "addresses");
    let list = format!("{path}.addresses");
    if addresses.is_empty() {
        check::required(causes, &list, "must contain at least 1 address");
    } else if addresses.len() > ENDPOINT_ADDRESSES_MAX {
        check::too_many(causes, &list, addresses.len(), ENDPOINT_ADDRESSES_MAX);
    }
    for (index, address) in addresses.iter().enumerate() {
        check_address(address.as_str().unwrap_or(""), kind, &format!("{list}[{index}]"), causes);
    }
    let hostname = text(endpoint, "hostname");
    if !hostname.is_empty() {
        check::dns_label(causes, &format!("{path}.hostname"), hostname);
    }
    let node = text(endpoint, "nodeName");
    if !node.is_empty() {
        check::dns_subdomain(causes, &format!("{path}.nodeName"), node);
    }
}

fn check_address(address: &str, kind: &str, path: &str, causes: &mut Causes) {
    match (kind, address.parse::<IpAddr>()) {
        ("IPv4", Ok(IpAddr::V6(_))) => check::invalid(causes, path, &address.into(), "must be an IPv4 address"),
        ("IPv6", Ok(IpAddr::V4(_))) => check::invalid(causes, path, &address.into(), "must be an IPv6 address"),
        ("IPv4" | "IPv6", _) => check::ip(causes, path, address),
        ("FQDN", _) => check::dns_subdomain(causes, path, address),
        _ => {}
    }
}

fn check_ports(object: &Value, causes: &mut Causes) {
    let ports = items(object, "ports");
    if ports.len() > SLICE_PORTS_MAX {
        check::too_many(causes, "ports", ports.len(), SLICE_PORTS_MAX);
        return;
    }
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("ports[{index}]");
        let name = text(port, "name");
        if !name.is_empty() {
            check::dns_label(causes, &format!("{path}.name"), name);
        }
        if !names.insert(name) {
            check::duplicate(causes, &format!("{path}.name"), name);
        }
        check::protocol(causes, &format!("{path}.protocol"), text(port, "protocol"));
        if let Some(number) = int(port, "port") {
            check::port(causes, &format!("{path}.port"), number);
        }
    }
}

impl Resource for EndpointSlices {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        for port in items_mut(object, "ports") {
            default_if_absent(port, "name", "");
            default_if_zero(port, "protocol", "TCP");
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn generation_changes(&self, new: &Value, old: &Value) -> bool {
        ["addressType", "endpoints", "ports"].iter().any(|key| !check::same(at(new, key), at(old, key)))
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let kind = text(object, "addressType");
        check::required_one_of(causes, "addressType", kind, &["FQDN", "IPv4", "IPv6"]);
        let endpoints = items(object, "endpoints");
        if endpoints.len() > SLICE_ENDPOINTS_MAX {
            check::too_many(causes, "endpoints", endpoints.len(), SLICE_ENDPOINTS_MAX);
        } else {
            for (index, endpoint) in endpoints.iter().enumerate() {
                check_endpoint(endpoint, kind, &format!("endpoints[{index}]"), causes);
            }
        }
        check_ports(object, causes);
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        check::immutable(causes, "addressType", at(new, "addressType"), at(old, "addressType"));
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        let port = |port: &Value| match (int(port, "port"), port.get("name")) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.as_str().unwrap_or("").to_owned(),
            (None, None) => "*".to_owned(),
        };
        let ports: Vec<String> = items(object, "ports").iter().map(port).collect();
        let addresses: Vec<String> = items(object, "endpoints")
            .iter()
            .flat_map(|endpoint| items(endpoint, "addresses"))
            .filter_map(|address| address.as_str().map(str::to_owned))
            .collect();
        vec![
            columns::name(object),
            text(object, "addressType").into(),
            shown(&ports),
            shown(&addresses),
            columns::age(object, now_unix_s),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cells, errors, update_errors};
    use serde_json::json;

    #[test]
    fn rules() {
        assert_eq!(errors(&EndpointSlices, json!({})), vec!["addressType: Required value"]);
        let bad =
            json!({"addressType": "IPv4", "endpoints": [{"addresses": []}, {"addresses": ["::1"]}], "ports": [{}, {}]});
        assert_eq!(
            errors(&EndpointSlices, bad),
            vec![
                "endpoints[0].addresses: Required value: must contain at least 1 address",
                "endpoints[1].addresses[0]: Invalid value: \"::1\": must be an IPv4 address",
                "ports[1].name: Duplicate value: \"\"",
            ]
        );
        let changed = update_errors(&EndpointSlices, json!({"addressType": "IPv6"}), json!({"addressType": "IPv4"}));
        assert_eq!(changed, vec!["addressType: Invalid value: \"IPv6\": field is immutable"]);
    }

    #[test]
    fn endpoints_at_the_limit() {
        let of = |count: usize| {
            let endpoints: Vec<Value> = (0..count).map(|_| json!({"addresses": ["10.0.0.1"]})).collect();
            errors(&EndpointSlices, json!({"addressType": "IPv4", "endpoints": endpoints})).len()
        };
        assert_eq!((of(SLICE_ENDPOINTS_MAX), of(SLICE_ENDPOINTS_MAX + 1)), (0, 1));
        let of = |count: usize| {
            let addresses = vec!["10.0.0.1"; count];
            errors(&EndpointSlices, json!({"addressType": "IPv4", "endpoints": [{"addresses": addresses}]})).len()
        };
        assert_eq!((of(ENDPOINT_ADDRESSES_MAX), of(ENDPOINT_ADDRESSES_MAX + 1)), (0, 1));
        let of = |count: usize| {
            let ports: Vec<Value> = (0..count).map(|i| json!({"name": format!("p{i}")})).collect();
            errors(&EndpointSlices, json!({"addressType": "IPv4", "ports": ports})).len()
        };
        assert_eq!((of(SLICE_PORTS_MAX), of(SLICE_PORTS_MAX + 1)), (0, 1));
    }

    #[test]
    fn row() {
        let object = json!({"metadata": {"name": "a"}, "addressType": "IPv4", "ports": [{"port": 80}, {}, {"name": "a"}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]});
        assert_eq!(cells(&EndpointSlices, &object, 0), ["a", "IPv4", "80,*,a", "10.0.0.1,10.0.0.2", "<unknown>"]);
        assert_eq!(cells(&EndpointSlices, &json!({}), 0)[2..4], ["<unset>", "<unset>"]);
    }
}
