use std::collections::BTreeSet;

use keelstone_machinery::{field::Causes, ResourceInfo, SubresourceInfo};
use keelstone_registry::{Column, Resource, WriteContext};
use serde_json::Value;

use crate::check;
use crate::columns::{self, column, wide, NONE, UNKNOWN};
use crate::json::{at, default_if_absent, entries, flag, get_mut, has, is_empty, items, text};
use crate::strategy;

/// Node, v1.
pub struct Nodes;

static INFO: ResourceInfo = ResourceInfo {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    categories: &[],
    namespaced: false,
    verbs: strategy::VERBS,
    subresources: SUBRESOURCES,
};

static SUBRESOURCES: &[SubresourceInfo] = &[strategy::status("", "v1", "Node")];

static COLUMNS: &[Column] = &[
    columns::NAME,
    column("Status", "string", "Whether the node is ready, and whether it takes new pods."),
    column("Roles", "string", "The roles of the node, from its labels."),
    columns::AGE,
    column("Version", "string", "The version of the node's agent."),
    wide("Internal-IP", "string", "The address of the node inside the cluster."),
    wide("External-IP", "string", "The address of the node from outside."),
    wide("OS-Image", "string", "The operating system of the node."),
    wide("Kernel-Version", "string", "The kernel of the node."),
    wide("Container-Runtime", "string", "The container runtime of the node and its version."),
];

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

fn status(object: &Value) -> String {
    let ready = match text(columns::condition(object, "Ready"), "status") {
        "" => "Unknown",
        "True" => "Ready",
        _ => "NotReady",
    };
    if flag(object, "spec.unschedulable") {
        format!("{ready},SchedulingDisabled")
    } else {
        ready.to_owned()
    }
}

fn roles(object: &Value) -> String {
    let roles: BTreeSet<&str> = entries(object, "metadata.labels")
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() {
        return NONE.into();
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address(object: &Value, kind: &str) -> Value {
    let found = items(object, "status.addresses").iter().find(|a| text(a, "type") == kind);
    found.map_or(NONE, |a| text(a, "address")).into()
}

fn system_info(object: &Value, field: &str) -> Value {
    match text(at(object, "status.nodeInfo"), field) {
        "" => UNKNOWN,
        value => value,
    }
    .into()
}

fn validate_taints(object: &Value, causes: &mut Causes) {
    let mut seen = BTreeSet::new();
    for (index, taint) in items(object, "spec.taints").iter().enumerate() {
        let path = format!("spec.taints[{index}]");
        let (key, effect) = (text(taint, "key"), text(taint, "effect"));
        check::qualified_name(causes, &format!("{path}.key"), key);
        let value = text(taint, "value");
        if !value.is_empty() {
            check::label_value(causes, &format!("{path}.value"), value);
        }
        check::required_one_of(
            causes,
            &format!("{path}.effect"),
            effect,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
        if !seen.insert((key, effect)) {
            check::duplicate(causes, &path, key);
        }
    }
}

impl Resource for Nodes {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        let Some(status) = get_mut(object, "status").filter(|s| s.is_object()) else { return };
        if let Some(capacity) = status.get("capacity").filter(|c| !c.is_null()).cloned() {
            default_if_absent(status, "allocatable", capacity);
        }
    }

    // A node that registers itself sends its status with its creation, so it is kept there.
    fn prepare_for_update(&self, context: &WriteContext, new: &mut Value, old: &Value) {
        strategy::separate_status(context, new, old);
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        validate_taints(object, causes);
        for list in ["capacity", "allocatable"] {
            for (name, amount) in entries(object, &format!("status.{list}")) {
                let path = format!("status.{list}.{name}");
                check::qualified_name(causes, &path, name);
                check::quantity(causes, &path, amount);
            }
        }
        for (index, range) in items(object, "spec.podCIDRs").iter().enumerate() {
            if !is_cidr(range.as_str().unwrap_or("")) {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                check::invalid(causes, &format!("spec.podCIDRs[{index}]"), range, detail);
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        let mut addresses = BTreeSet::new();
        for (index, address) in items(new, "status.addresses").iter().enumerate() {
            if !addresses.insert(address.to_string()) {
                check::duplicate(causes, &format!("status.addresses[{index}]"), text(address, "address"));
            }
        }
        let changed = |path| !check::same(at(new, path), at(old, path));
        if !is_empty(old, "spec.podCIDRs") && changed("spec.podCIDRs") {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            check::forbidden(causes, "spec.podCIDRs", detail);
        }
        if has(old, "spec.providerID") && !is_empty(old, "spec.providerID") && changed("spec.providerID") {
            let detail = "node updates may not change providerID except from \"\" to valid";
            check::forbidden(causes, "spec.providerID", detail);
        }
    }

    fn fields(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn field(&self, object: &Value, path: &str) -> Option<String> {
        (path == "spec.unschedulable").then(|| flag(object, path).to_string())
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        vec![
            columns::name(object),
            status(object).into(),
            roles(object).into(),
            columns::age(object, now_unix_s),
            text(object, "status.nodeInfo.kubeletVersion").into(),
            address(object, "InternalIP"),
            address(object, "ExternalIP"),
            system_info(object, "osImage"),
            system_info(object, "kernelVersion"),
            system_info(object, "containerRuntimeVersion"),
        ]
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    match address.parse() {
        Ok(std::net::IpAddr::V4(_)) => bits <= 32,
        Ok(std::net::IpAddr::V6(_)) => bits <= 128,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cells, errors, update_errors};
    use serde_json::json;

    #[test]
    fn row_of_a_cordoned_master() {
        let object = json!({
            "metadata": {"name": "w1", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "a"}},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "False"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Debian"},
            },
        });
        let expected = [
            "w1",
            "NotReady,SchedulingDisabled",
            "a,control-plane",
            "<unknown>",
            "v1.37.0",
            "10.0.0.1",
            "<none>",
            "Debian",
            "<unknown>",
            "<unknown>",
        ];
        assert_eq!(cells(&Nodes, &object, 0), expected);
        assert_eq!(cells(&Nodes, &json!({}), 0)[1], "Unknown");
    }

    #[test]
    fn taints() {
        let bad = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "x"}]}});
        assert_eq!(
            errors(&Nodes, bad),
            vec![
                "spec.taints[1]: Duplicate value: \"a\"",
                "spec.taints[2].effect: Unsupported value: \"x\": supported values: \"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\"",
            ]
        );
    }

    #[test]
    fn ranges_stay() {
        let old = json!({"spec": {"podCIDRs": ["10.1.0.0/24"]}});
        assert_eq!(update_errors(&Nodes, json!({"spec": {}}), old.clone()).len(), 1);
        assert!(update_errors(&Nodes, old, json!({})).is_empty());
        assert!(is_cidr("10.0.0.0/32") && !is_cidr("10.0.0.0/33") && !is_cidr("x/1"));
    }
}
