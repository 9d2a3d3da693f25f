//! The rules of a pod's specification as a whole.

use std::collections::BTreeSet;

use keelstone_machinery::field::Causes;
use serde_json::Value;

use super::{affinity, container, scheduling, security, volume};
use crate::check;
use crate::json::{at, has, int, is_empty, items, text};

const NAMESERVERS_MAX: usize = 3;
const SEARCH_PATHS_MAX: usize = 32;

pub fn check(spec: &Value, path: &str, causes: &mut Causes) {
    let volumes = volume::check_all(items(spec, "volumes"), &format!("{path}.volumes"), causes);
    container::check_all(spec, path, &volumes, causes);
    let restart_policy = text(spec, "restartPolicy");
    let policies = ["Always", "Never", "OnFailure"];
    check::required_one_of(causes, &format!("{path}.restartPolicy"), restart_policy, &policies);
    check_dns(spec, path, causes);
    check_names(spec, path, causes);
    check::labels(causes, &format!("{path}.nodeSelector"), spec, "nodeSelector");
    security::pod(spec, path, causes);
    affinity::check(at(spec, "affinity"), &format!("{path}.affinity"), causes);
    scheduling::check(spec, path, causes);
    check_host_ports(spec, path, causes);
    if let Some(deadline) = int(spec, "activeDeadlineSeconds") {
        if !(1..=i64::from(i32::MAX)).contains(&deadline) {
            let detail = format!("must be between 1 and {}, inclusive", i32::MAX);
            check::invalid(causes, &format!("{path}.activeDeadlineSeconds"), &deadline.into(), &detail);
        }
    }
    let preemption = text(spec, "preemptionPolicy");
    if !preemption.is_empty() {
        let supported = ["Never", "PreemptLowerPriority"];
        check::one_of(causes, &format!("{path}.preemptionPolicy"), preemption, &supported);
    }
}

fn check_dns(spec: &Value, path: &str, causes: &mut Causes) {
    let policy = text(spec, "dnsPolicy");
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    check::required_one_of(causes, &format!("{path}.dnsPolicy"), policy, &policies);
    let path = format!("{path}.dnsConfig");
    let (servers, searches) = (items(spec, "dnsConfig.nameservers"), items(spec, "dnsConfig.searches"));
    if policy == "None" && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        check::required(causes, &format!("{path}.nameservers"), detail);
    }
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        check::invalid(causes, &format!("{path}.nameservers"), at(spec, "dnsConfig.nameservers"), &detail);
    }
    for (index, server) in servers.iter().enumerate() {
        check::ip(causes, &format!("{path}.nameservers[{index}]"), server.as_str().unwrap_or(""));
    }
    if searches.len() > SEARCH_PATHS_MAX {
        let detail = format!("must not have more than {SEARCH_PATHS_MAX} search paths");
        check::invalid(causes, &format!("{path}.searches"), at(spec, "dnsConfig.searches"), &detail);
    }
    for (index, search) in searches.iter().enumerate() {
        let name = search.as_str().unwrap_or("");
        let name = name.strip_suffix('.').filter(|n| !n.is_empty()).unwrap_or(name);
        if name != "." {
            check::dns_subdomain(causes, &format!("{path}.searches[{index}]"), name);
        }
    }
    for (index, option) in items(spec, "dnsConfig.options").iter().enumerate() {
        if is_empty(option, "name") {
            check::required(causes, &format!("{path}.options[{index}]"), "must not be empty");
        }
    }
}

fn check_names(spec: &Value, path: &str, causes: &mut Causes) {
    for field in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let name = text(spec, field);
        if !name.is_empty() {
            check::dns_subdomain(causes, &format!("{path}.{field}"), name);
        }
    }
    for field in ["hostname", "subdomain"] {
        let name = text(spec, field);
        if !name.is_empty() {
            check::dns_label(causes, &format!("{path}.{field}"), name);
        }
    }
    for (index, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if is_empty(secret, "name") {
            check::required(causes, &format!("{path}.imagePullSecrets[{index}].name"), "");
        }
    }
    for (index, gate) in items(spec, "readinessGates").iter().enumerate() {
        let path = format!("{path}.readinessGates[{index}].conditionType");
        check::qualified_name(causes, &path, text(gate, "conditionType"));
    }
    for (index, alias) in items(spec, "hostAliases").iter().enumerate() {
        let path = format!("{path}.hostAliases[{index}]");
        check::ip(causes, &format!("{path}.ip"), text(alias, "ip"));
        for (at, name) in items(alias, "hostnames").iter().enumerate() {
            check::dns_subdomain(causes, &format!("{path}.hostnames[{at}]"), name.as_str().unwrap_or(""));
        }
    }
}

/// Two containers cannot have the same port of the node; on the node's network the ports are the node's.
fn check_host_ports(spec: &Value, path: &str, causes: &mut Causes) {
    let host_network = at(spec, "hostNetwork").as_bool() == Some(true);
    let mut taken = BTreeSet::new();
    for (index, container) in items(spec, "containers").iter().enumerate() {
        for (at, port) in items(container, "ports").iter().enumerate() {
            let path = format!("{path}.containers[{index}].ports[{at}]");
            let Some(number) = int(port, "hostPort").filter(|number| *number > 0) else { continue };
            if host_network && int(port, "containerPort") != Some(number) {
                let detail = "must match `hostPort` when `hostNetwork` is true";
                let value = crate::json::at(port, "containerPort");
                check::invalid(causes, &format!("{path}.containerPort"), value, detail);
            }
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if !taken.insert(key.clone()) {
                check::duplicate(causes, &format!("{path}.hostPort"), &key);
            }
        }
    }
    if host_network && has(spec, "hostUsers") && at(spec, "hostUsers").as_bool() == Some(false) {
        let detail = "when `hostNetwork` is true, `hostUsers` must not be false";
        check::forbidden(causes, &format!("{path}.hostNetwork"), detail);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::errors;
    use serde_json::json;

    #[test]
    fn policies() {
        assert!(errors(|_| {}).is_empty());
        assert_eq!(
            errors(|s| s["restartPolicy"] = "x".into()),
            vec![
                "spec.restartPolicy: Unsupported value: \"x\": supported values: \"Always\", \"Never\", \"OnFailure\""
            ]
        );
        assert_eq!(
            errors(|s| s["dnsPolicy"] = "None".into()),
            vec!["spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"]
        );
        assert_eq!(errors(|s| s["dnsConfig"] = json!({"nameservers": ["1.1.1.1", "x"]})).len(), 1);
        let servers = |count: usize| errors(|s| s["dnsConfig"] = json!({"nameservers": vec!["1.1.1.1"; count]}));
        assert_eq!((servers(3).len(), servers(4).len()), (0, 1));
    }

    #[test]
    fn deadlines_at_the_limit() {
        for (seconds, count) in [(0, 1), (1, 0), (2_147_483_647, 0), (2_147_483_648_i64, 1)] {
            assert_eq!(errors(|s| s["activeDeadlineSeconds"] = seconds.into()).len(), count, "{seconds}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(errors(|s| s["nodeName"] = "A".into()).len(), 1);
        assert_eq!(errors(|s| s["hostname"] = "a.b".into()).len(), 1);
        assert_eq!(errors(|s| s["nodeSelector"] = json!({"a b": "c"})).len(), 1);
        assert_eq!(errors(|s| s["hostAliases"] = json!([{"ip": "x"}])).len(), 1);
        assert_eq!(errors(|s| s["readinessGates"] = json!([{"conditionType": ""}])).len(), 2);
    }

    #[test]
    fn host_ports_are_taken_once() {
        let port = json!({"containerPort": 80, "hostPort": 80});
        assert_eq!(
            errors(|s| s["containers"][0]["ports"] = json!([port, port])),
            vec!["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""]
        );
        let errors = errors(|s| {
            s["hostNetwork"] = true.into();
            s["containers"][0]["ports"] = json!([{"containerPort": 81, "hostPort": 80}]);
        });
        assert_eq!(
            errors,
            vec!["spec.containers[0].ports[0].containerPort: Invalid value: 81: must match `hostPort` when `hostNetwork` is true"]
        );
    }
}
