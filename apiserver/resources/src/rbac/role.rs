use keelstone_machinery::{field::Causes, validation, ResourceInfo};
use keelstone_registry::{Column, Resource};
use serde_json::Value;

use super::{rules, GROUP};
use crate::columns;
use crate::strategy;

/// Role, rbac.authorization.k8s.io/v1.
pub struct Roles;

static INFO: ResourceInfo = ResourceInfo {
    group: GROUP,
    version: "v1",
    kind: "Role",
    plural: "roles",
    singular: "role",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: &[],
};

pub(super) static COLUMNS: &[Column] = &[columns::NAME, columns::CREATED_AT];

impl Resource for Roles {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        rules::check(object, true, causes);
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        validation::path_segment_name(name)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
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
    fn rules_are_checked() {
        let bad = json!({"rules": [{}, {"verbs": ["get"], "nonResourceURLs": ["/a"]}]});
        assert_eq!(
            errors(&Roles, bad),
            vec![
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
                "rules[1].nonResourceURLs: Invalid value: [\"/a\"]: namespaced rules cannot apply to non-resource URLs",
            ]
        );
        assert!(errors(&Roles, json!({"rules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["*"]}]})).is_empty());
        assert!(Roles.validate_name("system:controller:x").is_empty());
    }
}
