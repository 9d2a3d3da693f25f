//! The rules of roles.

use keelstone_machinery::field::Causes;
use serde_json::Value;

use crate::check;
use crate::json::{is_empty, items};

/// Checks `rules` of a Role (`namespaced`) or ClusterRole.
pub fn check(object: &Value, namespaced: bool, causes: &mut Causes) {
    for (index, rule) in items(object, "rules").iter().enumerate() {
        check_rule(rule, &format!("rules[{index}]"), namespaced, causes);
    }
}

fn check_rule(rule: &Value, path: &str, namespaced: bool, causes: &mut Causes) {
    if is_empty(rule, "verbs") {
        check::required(causes, &format!("{path}.verbs"), "verbs must contain at least one value");
    }
    let urls = rule.get("nonResourceURLs");
    if !is_empty(rule, "nonResourceURLs") {
        let mut wrong = |detail| {
            check::invalid(causes, &format!("{path}.nonResourceURLs"), urls.unwrap_or(&Value::Null), detail);
        };
        if namespaced {
            wrong("namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|key| !is_empty(rule, key)) {
            wrong("rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if is_empty(rule, "apiGroups") {
        check::required(causes, &format!("{path}.apiGroups"), "resource rules must supply at least one api group");
    }
    if is_empty(rule, "resources") {
        check::required(causes, &format!("{path}.resources"), "resource rules must supply at least one resource");
    }
}
