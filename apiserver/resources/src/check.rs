//! Checks that several kinds share, with Kubernetes' texts. Paths are written out: `spec.containers[0].name`.

use base64::Engine as _;
use keelstone_machinery::field::{Causes, Path};
use keelstone_machinery::quantity::Quantity;
use keelstone_machinery::validation;
use serde_json::Value;

use crate::json::{entries, items, text};

pub fn required(causes: &mut Causes, path: &str, detail: &str) {
    causes.required(&Path::from(path), detail);
}

pub fn invalid(causes: &mut Causes, path: &str, value: &Value, detail: &str) {
    causes.invalid(&Path::from(path), value.clone(), detail);
}

pub fn forbidden(causes: &mut Causes, path: &str, detail: &str) {
    causes.forbidden(&Path::from(path), detail);
}

pub fn duplicate(causes: &mut Causes, path: &str, value: &str) {
    causes.duplicate(&Path::from(path), value);
}

pub fn not_found(causes: &mut Causes, path: &str, value: &str) {
    causes.not_found(&Path::from(path), value);
}

pub fn too_long(causes: &mut Causes, path: &str, bytes_max: usize) {
    causes.too_long(&Path::from(path), bytes_max);
}

pub fn too_many(causes: &mut Causes, path: &str, actual: usize, items_max: usize) {
    causes.too_many(&Path::from(path), actual, items_max);
}

/// `value` must be one of `supported`.
pub fn one_of(causes: &mut Causes, path: &str, value: &str, supported: &[&str]) {
    if !supported.contains(&value) {
        causes.not_supported(&Path::from(path), value, supported);
    }
}

/// `value` must be set and one of `supported`.
pub fn required_one_of(causes: &mut Causes, path: &str, value: &str, supported: &[&str]) {
    if value.is_empty() {
        required(causes, path, "");
    } else {
        one_of(causes, path, value, supported);
    }
}

/// `new` may not differ from `old`.
pub fn immutable(causes: &mut Causes, path: &str, new: &Value, old: &Value) {
    if !same(new, old) {
        invalid(causes, path, new, "field is immutable");
    }
}

/// Equality as the API sees it: absent, null and empty are the same.
pub fn same(a: &Value, b: &Value) -> bool {
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    match (a, b) {
        _ if empty(a) && empty(b) => true,
        (Value::Object(x), Value::Object(y)) => x
            .keys()
            .chain(y.keys())
            .all(|key| same(x.get(key).unwrap_or(&Value::Null), y.get(key).unwrap_or(&Value::Null))),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        _ => a == b,
    }
}

fn each(causes: &mut Causes, path: &str, value: &str, messages: &[String]) {
    causes.invalid_each(&Path::from(path), value, messages);
}

pub fn dns_label(causes: &mut Causes, path: &str, value: &str) {
    each(causes, path, value, &validation::dns1123_label(value));
}

pub fn dns_subdomain(causes: &mut Causes, path: &str, value: &str) {
    each(causes, path, value, &validation::dns1123_subdomain(value));
}

pub fn qualified_name(causes: &mut Causes, path: &str, value: &str) {
    each(causes, path, value, &validation::qualified_name(value));
}

pub fn label_value(causes: &mut Causes, path: &str, value: &str) {
    each(causes, path, value, &validation::label_value(value));
}

/// A key of a ConfigMap or Secret.
pub fn config_key(causes: &mut Causes, path: &str, key: &str) {
    each(causes, path, key, &validation::config_map_key(key));
}

/// The decoded length of a base64 value.
pub fn base64_len(causes: &mut Causes, path: &str, value: &Value) -> usize {
    match base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or("")) {
        Ok(bytes) => bytes.len(),
        Err(_) => {
            invalid(causes, path, value, "must be base64");
            0
        }
    }
}

/// The name of an environment variable.
pub fn env_name(causes: &mut Causes, path: &str, name: &str) {
    each(causes, path, name, &validation::env_var_name(name));
}

/// A port's name: an IANA service name.
pub fn port_name(causes: &mut Causes, path: &str, name: &str) {
    each(causes, path, name, &validation::port_name(name));
}

/// A port number.
pub fn port(causes: &mut Causes, path: &str, number: i64) {
    for message in validation::port_number(number) {
        invalid(causes, path, &number.into(), &message);
    }
}

/// A port as a number or as a name.
pub fn port_or_name(causes: &mut Causes, path: &str, value: &Value) {
    match value {
        Value::String(name) => port_name(causes, path, name),
        Value::Number(number) => port(causes, path, number.as_i64().unwrap_or(0)),
        _ => port(causes, path, 0),
    }
}

pub fn protocol(causes: &mut Causes, path: &str, value: &str) {
    required_one_of(causes, path, value, &["SCTP", "TCP", "UDP"]);
}

/// An IPv4 or IPv6 address.
pub fn ip(causes: &mut Causes, path: &str, value: &str) {
    each(causes, path, value, &validation::ip_address(value));
}

pub fn not_negative(causes: &mut Causes, path: &str, value: Option<i64>) {
    if let Some(value) = value.filter(|v| *v < 0) {
        invalid(causes, path, &value.into(), "must be greater than or equal to 0");
    }
}

pub fn positive(causes: &mut Causes, path: &str, value: Option<i64>) {
    if let Some(value) = value.filter(|v| *v <= 0) {
        invalid(causes, path, &value.into(), "must be greater than 0");
    }
}

/// A quantity that is not negative.
pub fn quantity(causes: &mut Causes, path: &str, value: &Value) -> Option<Quantity> {
    match Quantity::from_value(value) {
        Ok(quantity) => {
            if quantity.is_negative() {
                invalid(causes, path, &quantity.to_string().into(), "must be greater than or equal to 0");
            }
            Some(quantity)
        }
        Err(error) => {
            invalid(causes, path, value, &error.to_string());
            None
        }
    }
}

/// Labels, or a map of the same form such as a node selector.
pub fn labels(causes: &mut Causes, path: &str, object: &Value, field: &str) {
    for (key, value) in entries(object, field) {
        qualified_name(causes, path, key);
        label_value(causes, path, value.as_str().unwrap_or(""));
    }
}

/// A label selector with matchLabels and matchExpressions.
pub fn label_selector(causes: &mut Causes, path: &str, selector: &Value) {
    labels(causes, &format!("{path}.matchLabels"), selector, "matchLabels");
    for (index, expression) in items(selector, "matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let values = items(expression, "values");
        match text(expression, "operator") {
            "In" | "NotIn" => {
                if values.is_empty() {
                    let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                    required(causes, &format!("{path}.values"), detail);
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    forbidden(causes, &format!("{path}.values"), detail);
                }
            }
            other => invalid(causes, &format!("{path}.operator"), &other.into(), "not a valid selector operator"),
        }
        qualified_name(causes, &format!("{path}.key"), text(expression, "key"));
        for (at, value) in values.iter().enumerate() {
            label_value(causes, &format!("{path}.values[{at}]"), value.as_str().unwrap_or(""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(run: impl FnOnce(&mut Causes)) -> Vec<String> {
        let mut causes = Causes::new();
        run(&mut causes);
        causes.list().iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    }

    #[test]
    fn ports_at_the_limit() {
        for (number, good) in [(0, false), (1, true), (65_535, true), (65_536, false)] {
            assert_eq!(messages(|c| port(c, "p", number)).is_empty(), good, "{number}");
        }
    }

    #[test]
    fn equality_sees_through_empty_values() {
        assert!(same(&json!({"a": [], "b": {"c": null}}), &json!({"b": {}})));
        assert!(!same(&json!({"a": [1]}), &json!({"a": [1, 2]})));
        assert!(!same(&json!({"a": 0}), &json!({})));
    }
}
