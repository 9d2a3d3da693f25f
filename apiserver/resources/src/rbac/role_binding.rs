use keelstone_machinery::{field::Causes, validation, ResourceInfo};
use keelstone_registry::{Column, Resource};
use serde_json::Value;

use super::{binding, GROUP};
use crate::strategy;

/// RoleBinding, rbac.authorization.k8s.io/v1.
pub struct RoleBindings;

static INFO: ResourceInfo = ResourceInfo {
    group: GROUP,
    version: "v1",
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: &[],
};

impl Resource for RoleBindings {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        binding::default(object);
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        binding::validate(object, true, &["ClusterRole", "Role"], causes);
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
    use crate::testing::{cells, errors, update_errors};
    use serde_json::json;

    fn role_binding() -> Value {
        json!({
            "metadata": {"name": "b"},
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [
                {"kind": "User", "name": "u"}, {"kind": "User", "name": "v"}, {"kind": "Group", "name": "g"},
                {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
            ],
        })
    }

    #[test]
    fn groups_are_filled_and_rows_show_subjects() {
        let mut object = role_binding();
        RoleBindings.default(&mut object);
        assert_eq!(object["roleRef"]["apiGroup"], GROUP);
        assert_eq!(object["subjects"][0]["apiGroup"], GROUP);
        assert_eq!(object["subjects"][3].get("apiGroup"), None);
        assert_eq!(cells(&RoleBindings, &object, 0), ["b", "Role/r", "<unknown>", "u, v", "g", "n/s"]);
        assert!(errors(&RoleBindings, object).is_empty());
    }

    #[test]
    fn bad_subjects() {
        let mut object = role_binding();
        object["subjects"] = json!([{"kind": "X", "name": "x"}, {"kind": "User"}]);
        assert_eq!(
            errors(&RoleBindings, object),
            vec![
                "subjects[0].kind: Unsupported value: \"X\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
                "subjects[1].name: Required value",
            ]
        );
    }

    #[test]
    fn the_role_stays() {
        let mut new = role_binding();
        new["roleRef"]["name"] = "q".into();
        assert_eq!(
            update_errors(&RoleBindings, new, role_binding()),
            vec!["roleRef: Invalid value: {\"kind\":\"Role\",\"name\":\"q\"}: cannot change roleRef"]
        );
    }
}
