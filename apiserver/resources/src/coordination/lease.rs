use keelstone_machinery::{field::Causes, ResourceInfo};
use keelstone_registry::{Column, Resource};
use serde_json::Value;

use crate::check;
use crate::columns::{self, column};
use crate::json::{int, text};
use crate::strategy;

/// Lease, coordination.k8s.io/v1.
pub struct Leases;

static INFO: ResourceInfo = ResourceInfo {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: &[],
};

static COLUMNS: &[Column] = &[columns::NAME, column("Holder", "string", "Who holds the lease."), columns::AGE];

impl Resource for Leases {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        check::positive(causes, "spec.leaseDurationSeconds", int(object, "spec.leaseDurationSeconds"));
        check::not_negative(causes, "spec.leaseTransitions", int(object, "spec.leaseTransitions"));
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        vec![columns::name(object), text(object, "spec.holderIdentity").into(), columns::age(object, now_unix_s)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::errors;
    use serde_json::json;

    #[test]
    fn durations_are_positive() {
        assert!(errors(&Leases, json!({"spec": {"leaseDurationSeconds": 1, "leaseTransitions": 0}})).is_empty());
        assert_eq!(
            errors(&Leases, json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}})),
            vec![
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }
}
