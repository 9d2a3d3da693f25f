use keelstone_machinery::{ResourceInfo, SubresourceInfo};
use keelstone_registry::{Column, Resource};
use serde_json::Value;

use crate::columns::{self, column};
use crate::json::items;
use crate::strategy;

/// ServiceAccount, v1.
pub struct ServiceAccounts;

static INFO: ResourceInfo = ResourceInfo {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    categories: &[],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: SUBRESOURCES,
};

static SUBRESOURCES: &[SubresourceInfo] = &[strategy::action("token", "authentication.k8s.io", "v1", "TokenRequest")];

static COLUMNS: &[Column] =
    &[columns::NAME, column("Secrets", "string", "The number of listed secrets."), columns::AGE];

impl Resource for ServiceAccounts {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        vec![columns::name(object), items(object, "secrets").len().into(), columns::age(object, now_unix_s)]
    }
}
