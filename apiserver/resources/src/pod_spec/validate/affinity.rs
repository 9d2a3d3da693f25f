//! The rules of affinity.

use keelstone_machinery::field::Causes;
use serde_json::Value;

use crate::check;
use crate::json::{at, has, int, is_empty, items, text};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub fn check(affinity: &Value, path: &str, causes: &mut Causes) {
    if has(affinity, "nodeAffinity") {
        node(at(affinity, "nodeAffinity"), &format!("{path}.nodeAffinity"), causes);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        if has(affinity, kind) {
            pods(at(affinity, kind), &format!("{path}.{kind}"), causes);
        }
    }
}

fn node(affinity: &Value, path: &str, causes: &mut Causes) {
    if has(affinity, REQUIRED) {
        let path = format!("{path}.{REQUIRED}.nodeSelectorTerms");
        let terms = items(at(affinity, REQUIRED), "nodeSelectorTerms");
        if terms.is_empty() {
            check::required(causes, &path, "must have at least one node selector term");
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(term, &format!("{path}[{index}]"), causes);
        }
    }
    for (index, preferred) in items(affinity, PREFERRED).iter().enumerate() {
        let path = format!("{path}.{PREFERRED}[{index}]");
        weight(preferred, &path, causes);
        node_term(at(preferred, "preference"), &format!("{path}.preference"), causes);
    }
}

fn weight(preferred: &Value, path: &str, causes: &mut Causes) {
    let weight = int(preferred, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        check::invalid(causes, &format!("{path}.weight"), &weight.into(), "must be in the range 1-100");
    }
}

fn node_term(term: &Value, path: &str, causes: &mut Causes) {
    for (index, expression) in items(term, "matchExpressions").iter().enumerate() {
        node_expression(expression, &format!("{path}.matchExpressions[{index}]"), causes);
    }
    for (index, field) in items(term, "matchFields").iter().enumerate() {
        let path = format!("{path}.matchFields[{index}]");
        check::one_of(causes, &format!("{path}.key"), text(field, "key"), &["metadata.name"]);
        check::one_of(causes, &format!("{path}.operator"), text(field, "operator"), &["In", "NotIn"]);
        if items(field, "values").len() != 1 {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            check::required(causes, &format!("{path}.values"), detail);
        }
    }
}

fn node_expression(expression: &Value, path: &str, causes: &mut Causes) {
    let values = items(expression, "values");
    let values_path = format!("{path}.values");
    match text(expression, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            check::required(causes, &values_path, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            check::forbidden(causes, &values_path, detail);
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            check::required(causes, &values_path, detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => check::invalid(causes, &format!("{path}.operator"), &other.into(), "not a valid selector operator"),
    }
    check::qualified_name(causes, &format!("{path}.key"), text(expression, "key"));
}

fn pods(affinity: &Value, path: &str, causes: &mut Causes) {
    for (index, term) in items(affinity, REQUIRED).iter().enumerate() {
        pod_term(term, &format!("{path}.{REQUIRED}[{index}]"), causes);
    }
    for (index, preferred) in items(affinity, PREFERRED).iter().enumerate() {
        let path = format!("{path}.{PREFERRED}[{index}]");
        weight(preferred, &path, causes);
        pod_term(at(preferred, "podAffinityTerm"), &format!("{path}.podAffinityTerm"), causes);
    }
}

fn pod_term(term: &Value, path: &str, causes: &mut Causes) {
    for selector in ["labelSelector", "namespaceSelector"] {
        check::label_selector(causes, &format!("{path}.{selector}"), at(term, selector));
    }
    for (index, namespace) in items(term, "namespaces").iter().enumerate() {
        check::dns_label(causes, &format!("{path}.namespaces[{index}]"), namespace.as_str().unwrap_or(""));
    }
    if is_empty(term, "topologyKey") {
        check::required(causes, &format!("{path}.topologyKey"), "can not be empty");
    } else {
        check::qualified_name(causes, &format!("{path}.topologyKey"), text(term, "topologyKey"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::errors;
    use serde_json::{json, Value};

    fn affinity(kind: &str, rule: &str, value: Value) -> Vec<String> {
        errors(|s| {
            s["affinity"] = json!({});
            s["affinity"][kind] = json!({});
            s["affinity"][kind][rule] = value;
        })
    }

    #[test]
    fn nodes() {
        let required = |terms: Value| affinity("nodeAffinity", super::REQUIRED, json!({"nodeSelectorTerms": terms}));
        assert_eq!(required(json!([])).len(), 1);
        let term = |operator: &str, values: Value| {
            required(json!([{"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}])).len()
        };
        assert_eq!((term("In", json!(["b"])), term("In", json!([]))), (0, 1));
        assert_eq!((term("Exists", json!([])), term("Exists", json!(["b"]))), (0, 1));
        assert_eq!((term("Gt", json!(["1"])), term("Gt", json!([])), term("x", json!([]))), (0, 1, 1));
        let preferred =
            |weight: i64| affinity("nodeAffinity", super::PREFERRED, json!([{"weight": weight, "preference": {}}]));
        assert_eq!([0, 1, 100, 101].map(|weight| preferred(weight).len()), [1, 0, 0, 1]);
    }

    #[test]
    fn pods() {
        let required = |term: Value| affinity("podAntiAffinity", super::REQUIRED, json!([term]));
        assert!(required(
            json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}})
        )
        .is_empty());
        assert_eq!(
            required(json!({})),
            vec!["spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty"]
        );
    }
}
