//! The rules of tolerations, topology spread and scheduling gates.

use std::collections::BTreeSet;

use keelstone_machinery::field::Causes;
use serde_json::Value;

use crate::check;
use crate::json::{at, has, int, is_empty, items, text};

pub fn check(spec: &Value, path: &str, causes: &mut Causes) {
    for (index, value) in items(spec, "tolerations").iter().enumerate() {
        toleration(value, &format!("{path}.tolerations[{index}]"), causes);
    }
    let mut seen = BTreeSet::new();
    for (index, value) in items(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = format!("{path}.topologySpreadConstraints[{index}]");
        spread(value, &path, causes);
        let key = (text(value, "topologyKey"), text(value, "whenUnsatisfiable"));
        if !seen.insert(key) {
            let detail = format!("{{{}, {}}}", key.0, key.1);
            check::duplicate(causes, &format!("{path}.{{topologyKey, whenUnsatisfiable}}"), &detail);
        }
    }
    let mut gates = BTreeSet::new();
    for (index, gate) in items(spec, "schedulingGates").iter().enumerate() {
        let path = format!("{path}.schedulingGates[{index}]");
        let name = text(gate, "name");
        check::qualified_name(causes, &path, name);
        if !gates.insert(name) {
            check::duplicate(causes, &path, name);
        }
    }
}

fn toleration(toleration: &Value, path: &str, causes: &mut Causes) {
    let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
    let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
    if !key.is_empty() {
        check::qualified_name(causes, &format!("{path}.key"), key);
    } else if operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        check::invalid(causes, &format!("{path}.operator"), &operator.into(), detail);
    }
    if has(toleration, "tolerationSeconds") && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        check::invalid(causes, &format!("{path}.effect"), &effect.into(), detail);
    }
    match operator {
        "" | "Equal" => check::label_value(causes, &format!("{path}.operator"), value),
        "Exists" => {
            if !value.is_empty() {
                let detail = "value must be empty when `operator` is 'Exists'";
                check::invalid(causes, &format!("{path}.operator"), toleration, detail);
            }
        }
        other => check::one_of(causes, &format!("{path}.operator"), other, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
        check::one_of(causes, &format!("{path}.effect"), effect, &effects);
    }
}

fn spread(constraint: &Value, path: &str, causes: &mut Causes) {
    let skew = int(constraint, "maxSkew").unwrap_or(0);
    if skew <= 0 {
        check::invalid(causes, &format!("{path}.maxSkew"), &skew.into(), "must be greater than zero");
    }
    if is_empty(constraint, "topologyKey") {
        check::required(causes, &format!("{path}.topologyKey"), "can not be empty");
    } else {
        check::qualified_name(causes, &format!("{path}.topologyKey"), text(constraint, "topologyKey"));
    }
    let action = text(constraint, "whenUnsatisfiable");
    check::one_of(causes, &format!("{path}.whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
    if let Some(domains) = int(constraint, "minDomains") {
        let path = format!("{path}.minDomains");
        if domains <= 0 {
            check::invalid(causes, &path, &domains.into(), "must be greater than zero");
        }
        if action != "DoNotSchedule" {
            let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
            check::invalid(causes, &path, &domains.into(), &detail);
        }
    }
    for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        let policy = text(constraint, field);
        if !policy.is_empty() {
            check::one_of(causes, &format!("{path}.{field}"), policy, &["Honor", "Ignore"]);
        }
    }
    check::label_selector(causes, &format!("{path}.labelSelector"), at(constraint, "labelSelector"));
}

#[cfg(test)]
mod tests {
    use super::super::testing::errors;
    use serde_json::{json, Value};

    fn toleration(value: Value) -> Vec<String> {
        errors(|s| s["tolerations"] = json!([value]))
    }

    #[test]
    fn tolerations() {
        assert!(toleration(json!({"operator": "Exists"})).is_empty());
        assert!(toleration(json!({"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5})).is_empty());
        assert_eq!(
            toleration(json!({"value": "b"})),
            vec!["spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\""]
        );
        assert_eq!(toleration(json!({"key": "a", "tolerationSeconds": 5})).len(), 1);
        assert_eq!(toleration(json!({"key": "a", "operator": "Exists", "value": "b"})).len(), 1);
        assert_eq!(toleration(json!({"key": "a", "operator": "x"})).len(), 1);
        assert_eq!(toleration(json!({"key": "a", "effect": "x"})).len(), 1);
    }

    #[test]
    fn spreads() {
        let spread = |change: fn(&mut Value)| {
            let mut value = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
            change(&mut value);
            errors(|s| s["topologySpreadConstraints"] = json!([value])).len()
        };
        assert_eq!(spread(|_| {}), 0);
        assert_eq!(spread(|v| v["maxSkew"] = 0.into()), 1);
        assert_eq!(spread(|v| v["topologyKey"] = "".into()), 1);
        assert_eq!(spread(|v| v["whenUnsatisfiable"] = "x".into()), 1);
        assert_eq!(spread(|v| v["minDomains"] = 0.into()), 1);
    }

    #[test]
    fn gates() {
        assert_eq!(errors(|s| s["schedulingGates"] = json!([{"name": "a"}, {"name": "a"}])).len(), 1);
        let both = errors(|s| {
            s["schedulingGates"] = json!([{"name": "a"}]);
            s["nodeName"] = "w".into();
        });
        assert_eq!(both, vec!["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]);
    }
}
