use keelstone_machinery::{field::Causes, ResourceInfo};
use keelstone_registry::{Column, Resource};
use serde_json::Value;

use crate::check;
use crate::columns::{self, column};
use crate::constants::USER_PRIORITY_MAX;
use crate::json::{at, default_if_absent, flag, int, text};
use crate::strategy;

/// PriorityClass, scheduling.k8s.io/v1.
pub struct PriorityClasses;

static INFO: ResourceInfo = ResourceInfo {
    group: "scheduling.k8s.io",
    version: "v1",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    categories: &[],
    namespaced: false,
    verbs: strategy::VERBS,
    subresources: &[],
};

static COLUMNS: &[Column] = &[
    columns::NAME,
    column("Value", "integer", "The priority that pods of this class get."),
    column("Global-Default", "boolean", "Whether pods without a class get this one."),
    columns::AGE,
    column("PreemptionPolicy", "string", "Whether pods of this class may displace others."),
];

const SYSTEM_PREFIX: &str = "system-";
/// The classes of the system's own pods, with their values.
pub const SYSTEM_CLASSES: &[(&str, i64)] =
    &[("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

impl Resource for PriorityClasses {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        default_if_absent(object, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (name, value) = (text(object, "metadata.name"), int(object, "value").unwrap_or(0));
        if name.starts_with(SYSTEM_PREFIX) {
            if !SYSTEM_CLASSES.contains(&(name, value)) {
                let detail = "priority class names with 'system-' prefix are reserved for system use only";
                check::forbidden(causes, "metadata.name", detail);
            }
        } else if value > USER_PRIORITY_MAX {
            let detail = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
            check::forbidden(causes, "value", &detail);
        }
        let policy = text(object, "preemptionPolicy");
        check::one_of(causes, "preemptionPolicy", policy, &["Never", "PreemptLowerPriority"]);
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        if int(new, "value").unwrap_or(0) != int(old, "value").unwrap_or(0) {
            check::forbidden(causes, "value", "may not be changed in an update.");
        }
        check::immutable(causes, "preemptionPolicy", at(new, "preemptionPolicy"), at(old, "preemptionPolicy"));
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        vec![
            columns::name(object),
            columns::count(object, "value"),
            flag(object, "globalDefault").into(),
            columns::age(object, now_unix_s),
            text(object, "preemptionPolicy").into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{errors, update_errors};
    use serde_json::json;

    #[test]
    fn values_at_the_limit() {
        let of = |name: &str, value: i64| errors(&PriorityClasses, json!({"metadata": {"name": name}, "value": value}));
        assert!(of("a", USER_PRIORITY_MAX).is_empty());
        assert_eq!(
            of("a", USER_PRIORITY_MAX + 1),
            vec!["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
        );
        assert!(of("system-node-critical", 2_000_001_000).is_empty());
        assert_eq!(of("system-x", 1).len(), 1);
    }

    #[test]
    fn the_value_stays() {
        let errors = update_errors(&PriorityClasses, json!({"value": 1}), json!({"value": 2}));
        assert_eq!(errors, vec!["value: Forbidden: may not be changed in an update."]);
    }
}
