use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use keelstone_client::Object;
use keelstone_machinery::selector::LabelSelector;

use crate::common::selector;

/// The rules that an aggregated role is to have: those of the matching roles in the order of their names, each
/// once. `None` if the role has them, or is not aggregated.
pub fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let rule = role.aggregation_rule.as_ref()?;
    let read = |selector| {
        let value = serde_json::to_value(selector).unwrap_or_default();
        LabelSelector::from_value(&value).unwrap_or_else(|_| LabelSelector::nothing())
    };
    let selectors: Vec<LabelSelector> = rule.cluster_role_selectors.iter().flatten().map(read).collect();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for other in all.iter().filter(|other| other.name() != role.name()) {
        if selectors.iter().any(|s| selector::matches(s, other.metadata.labels.as_ref())) {
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    (role.rules.as_deref().unwrap_or_default() != rules).then_some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_gathered_once() {
        let role = |name: &str, label: &str, verbs: &[&str]| -> Arc<ClusterRole> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name, "labels": {label: "true"}},
                    "rules": verbs.iter().map(|v| json!({"verbs": [v]})).collect::<Vec<_>>()}))
                .unwrap(),
            )
        };
        let all = [role("a", "to-edit", &["get", "list"]), role("b", "to-edit", &["get"]), role("c", "other", &["x"])];
        let mut edit: ClusterRole = serde_json::from_value(json!({"metadata": {"name": "edit"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to-edit": "true"}}]}}))
        .unwrap();
        let rules = plan(&edit, &all).unwrap();
        assert_eq!(rules.iter().flat_map(|rule| rule.verbs.clone()).collect::<Vec<_>>(), ["get", "list"]);
        edit.rules = Some(rules);
        assert_eq!(plan(&edit, &all), None);
        assert_eq!(plan(&all[2], &all), None);
    }
}
