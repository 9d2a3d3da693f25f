use keelstone_machinery::{field::Causes, ResourceInfo};
use keelstone_registry::{Column, Resource};
use serde_json::Value;

use crate::check;
use crate::columns::{self, column};
use crate::constants::DATA_BYTES_MAX;
use crate::json::{at, entries, flag, has, size};
use crate::strategy;

/// ConfigMap, v1.
pub struct ConfigMaps;

static INFO: ResourceInfo = ResourceInfo {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    categories: &[],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: &[],
};

static COLUMNS: &[Column] = &[columns::NAME, column("Data", "string", "The number of entries."), columns::AGE];

impl Resource for ConfigMaps {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let mut total_bytes = 0;
        for (key, value) in entries(object, "data") {
            check::config_key(causes, &format!("data[{key}]"), key);
            if has(at(object, "binaryData"), key) {
                let detail = "duplicate of key present in binaryData";
                check::invalid(causes, &format!("data[{key}]"), &key.as_str().into(), detail);
            }
            total_bytes += value.as_str().map_or(0, str::len);
        }
        for (key, value) in entries(object, "binaryData") {
            check::config_key(causes, &format!("binaryData[{key}]"), key);
            total_bytes += check::base64_len(causes, &format!("binaryData[{key}]"), value);
        }
        if total_bytes > DATA_BYTES_MAX {
            check::too_long(causes, "[]", DATA_BYTES_MAX);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        immutable_data(new, old, &["data", "binaryData"], causes);
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        let data = size(object, "data") + size(object, "binaryData");
        vec![columns::name(object), data.into(), columns::age(object, now_unix_s)]
    }
}

/// What `immutable: true` on a ConfigMap or Secret forbids.
pub(super) fn immutable_data(new: &Value, old: &Value, fields: &[&str], causes: &mut Causes) {
    if !flag(old, "immutable") {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if !flag(new, "immutable") {
        check::forbidden(causes, "immutable", detail);
    }
    for field in fields {
        if !check::same(at(new, field), at(old, field)) {
            check::forbidden(causes, field, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{errors, update_errors};
    use serde_json::json;

    #[test]
    fn keys_and_size() {
        assert_eq!(errors(&ConfigMaps, json!({"data": {"a.b-c_D": "x"}})), Vec::<String>::new());
        let bad = errors(&ConfigMaps, json!({"data": {"a b": "x"}}));
        assert!(bad[0].starts_with("data[a b]: Invalid value: \"a b\": a valid config key must consist of"), "{bad:?}");
        let full = "x".repeat(DATA_BYTES_MAX);
        assert!(errors(&ConfigMaps, json!({"data": {"a": full}})).is_empty());
        let over = "x".repeat(DATA_BYTES_MAX + 1);
        assert_eq!(errors(&ConfigMaps, json!({"data": {"a": over}})).len(), 1);
    }

    #[test]
    fn immutable_means_immutable() {
        let old = json!({"data": {"a": "1"}, "immutable": true});
        let text = "field is immutable when `immutable` is set";
        assert_eq!(
            update_errors(&ConfigMaps, json!({"data": {"a": "2"}, "immutable": true}), old.clone()),
            vec![format!("data: Forbidden: {text}")]
        );
        assert_eq!(
            update_errors(&ConfigMaps, json!({"data": {"a": "1"}}), old),
            vec![format!("immutable: Forbidden: {text}")]
        );
    }
}
