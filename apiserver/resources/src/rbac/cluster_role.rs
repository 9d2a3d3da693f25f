use keelstone_machinery::{field::Causes, validation, ResourceInfo};
use keelstone_registry::{Column, Resource};
use serde_json::Value;

use super::{role, rules, GROUP};
use crate::check;
use crate::columns;
use crate::json::{has, items};
use crate::strategy;

/// ClusterRole, rbac.authorization.k8s.io/v1.
pub struct ClusterRoles;

static INFO: ResourceInfo = ResourceInfo {
    group: GROUP,
    version: "v1",
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    short_names: &[],
    categories: &[],
    namespaced: false,
    verbs: strategy::VERBS,
    subresources: &[],
};

impl Resource for ClusterRoles {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        rules::check(object, false, causes);
        if !has(object, "aggregationRule") {
            return;
        }
        let selectors = items(object, "aggregationRule.clusterRoleSelectors");
        let path = "aggregationRule.clusterRoleSelectors";
        if selectors.is_empty() {
            check::required(causes, path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for (index, selector) in selectors.iter().enumerate() {
            check::label_selector(causes, &format!("{path}[{index}]"), selector);
        }
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        validation::path_segment_name(name)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        role::COLUMNS
    }

    fn row(&self, object: &Value, _now_unix_s: i64) -> Vec<Value> {
        vec![columns::name(object), columns::created_at(object)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::errors;
    use serde_json::json;

    #[test]
    fn urls_stand_alone() {
        let of = |rule| errors(&ClusterRoles, json!({"rules": [rule]}));
        assert!(of(json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]})).is_empty());
        assert_eq!(of(json!({"verbs": ["get"], "nonResourceURLs": ["/a"], "resources": ["b"]})).len(), 1);
    }

    #[test]
    fn aggregation_needs_selectors() {
        assert_eq!(errors(&ClusterRoles, json!({"aggregationRule": {}})).len(), 1);
        let good = json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
        assert!(errors(&ClusterRoles, good).is_empty());
    }
}
