use keelstone_machinery::{field::Causes, ResourceInfo};
use keelstone_registry::{Column, Resource};
use serde_json::Value;

use crate::check;
use crate::columns::{self, column};
use crate::json::{default_if_zero, int, items, items_mut, text};
use crate::strategy;

/// Endpoints, v1.
pub struct EndpointsKind;

static INFO: ResourceInfo = ResourceInfo {
    group: "",
    version: "v1",
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    categories: &[],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: &[],
};

static COLUMNS: &[Column] =
    &[columns::NAME, column("Endpoints", "string", "Addresses and ports that are ready."), columns::AGE];

/// All ready addresses with each of their ports.
fn addresses(object: &Value) -> Vec<String> {
    let mut list = Vec::new();
    for subset in items(object, "subsets") {
        let addresses = items(subset, "addresses").iter().map(|a| text(a, "ip"));
        let ports = items(subset, "ports");
        if ports.is_empty() {
            list.extend(addresses.map(str::to_owned));
            continue;
        }
        for port in ports {
            let number = int(port, "port").unwrap_or(0);
            list.extend(addresses.clone().map(|address| columns::host_port(address, number)));
        }
    }
    list
}

fn validate_address(address: &Value, path: &str, causes: &mut Causes) {
    check::ip(causes, &format!("{path}.ip"), text(address, "ip"));
    let hostname = text(address, "hostname");
    if !hostname.is_empty() {
        check::dns_label(causes, &format!("{path}.hostname"), hostname);
    }
}

fn validate_subset(subset: &Value, path: &str, causes: &mut Causes) {
    if items(subset, "addresses").is_empty() && items(subset, "notReadyAddresses").is_empty() {
        check::required(causes, path, "must specify `addresses` or `notReadyAddresses`");
    }
    for list in ["addresses", "notReadyAddresses"] {
        for (index, address) in items(subset, list).iter().enumerate() {
            validate_address(address, &format!("{path}.{list}[{index}]"), causes);
        }
    }
    let ports = items(subset, "ports");
    for (index, port) in ports.iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        let name = text(port, "name");
        if name.is_empty() && ports.len() > 1 {
            check::required(causes, &format!("{path}.name"), "");
        } else if !name.is_empty() {
            check::dns_label(causes, &format!("{path}.name"), name);
        }
        check::port(causes, &format!("{path}.port"), int(port, "port").unwrap_or(0));
        check::protocol(causes, &format!("{path}.protocol"), text(port, "protocol"));
    }
}

impl Resource for EndpointsKind {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        for subset in items_mut(object, "subsets") {
            for port in items_mut(subset, "ports") {
                default_if_zero(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        for (index, subset) in items(object, "subsets").iter().enumerate() {
            validate_subset(subset, &format!("subsets[{index}]"), causes);
        }
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        let shown = if items(object, "subsets").is_empty() {
            columns::NONE.to_owned()
        } else {
            columns::at_most_three(&addresses(object))
        };
        vec![columns::name(object), shown.into(), columns::age(object, now_unix_s)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cells, errors};
    use serde_json::json;

    #[test]
    fn shown_as_addresses_with_ports() {
        let object = json!({"metadata": {"name": "a"}, "subsets": [
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 443}]},
            {"addresses": [{"ip": "10.0.0.3"}]},
        ]});
        let expected = "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 2 more...";
        assert_eq!(cells(&EndpointsKind, &object, 0), vec!["a", expected, "<unknown>"]);
        assert_eq!(cells(&EndpointsKind, &json!({}), 0)[1], "<none>");
    }

    #[test]
    fn bad_addresses_and_ports() {
        let object =
            json!({"subsets": [{"addresses": [{"ip": "x"}], "ports": [{"port": 0}, {"port": 1, "name": "a"}]}]});
        assert_eq!(
            errors(&EndpointsKind, object),
            vec![
                "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "subsets[0].ports[0].name: Required value",
                "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ]
        );
    }
}
