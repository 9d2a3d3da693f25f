use keelstone_machinery::{field::Causes, validation, ResourceInfo};
use keelstone_registry::{Column, Resource};
use serde_json::Value;

use super::{binding, GROUP};
use crate::strategy;

/// ClusterRoleBinding, rbac.authorization.k8s.io/v1.
pub struct ClusterRoleBindings;

static INFO: ResourceInfo = ResourceInfo {
    group: GROUP,
    version: "v1",
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    short_names: &[],
    categories: &[],
    namespaced: false,
    verbs: strategy::VERBS,
    subresources: &[],
};

impl Resource for ClusterRoleBindings {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        binding::default(object);
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        binding::validate(object, false, &["ClusterRole"], causes);
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        binding::validate_update(new, old, causes);
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        validation::path_segment_name(name)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        binding::COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        binding::row(object, now_unix_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::errors;
    use serde_json::json;

    #[test]
    fn service_accounts_name_their_namespace() {
        let object = json!({
            "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "s"}],
        });
        assert_eq!(errors(&ClusterRoleBindings, object), vec!["subjects[0].namespace: Required value"]);
    }

    #[test]
    fn only_cluster_roles_are_granted() {
        let object = json!({"roleRef": {"kind": "Role", "name": "r"}});
        assert_eq!(
            errors(&ClusterRoleBindings, object),
            vec!["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""]
        );
    }
}
