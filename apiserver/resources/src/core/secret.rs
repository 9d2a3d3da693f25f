use base64::Engine as _;
use keelstone_machinery::{field::Causes, ResourceInfo};
use keelstone_registry::{Column, Resource, WriteContext};
use serde_json::Value;

use super::config_map::immutable_data;
use crate::check;
use crate::columns::{self, column};
use crate::constants::DATA_BYTES_MAX;
use crate::json::{at, child, copy, default_if_zero, entries, has, is_empty, remove, set, size, text};
use crate::strategy;

/// Secret, v1.
pub struct Secrets;

static INFO: ResourceInfo = ResourceInfo {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: &[],
};

static COLUMNS: &[Column] = &[
    columns::NAME,
    column("Type", "string", "What the data are for."),
    column("Data", "string", "The number of entries."),
    columns::AGE,
];

/// Moves the write-only `stringData` into `data`.
fn merge_string_data(object: &mut Value) {
    let strings: Vec<(String, String)> = entries(object, "stringData")
        .filter_map(|(key, value)| {
            Some((key.clone(), base64::engine::general_purpose::STANDARD.encode(value.as_str()?)))
        })
        .collect();
    if !strings.is_empty() {
        if let Some(data) = child(object, "data") {
            strings.into_iter().for_each(|(key, value)| set(data, &key, value));
        }
    }
    remove(object, "stringData");
}

/// The keys that a secret of this type must hold.
fn required_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    }
}

/// True if the base64 value holds a JSON object.
fn is_json(value: &Value) -> bool {
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or("")).unwrap_or_default();
    serde_json::from_slice::<Value>(&bytes).is_ok_and(|value| value.is_object())
}

fn validate_type(object: &Value, causes: &mut Causes) {
    let kind = text(object, "type");
    if kind == "kubernetes.io/service-account-token"
        && at(object, "metadata.annotations").get("kubernetes.io/service-account.name").is_none()
    {
        check::required(causes, "metadata.annotations[kubernetes.io/service-account.name]", "");
    }
    if kind == "kubernetes.io/basic-auth" && ["username", "password"].iter().all(|key| !has(at(object, "data"), key)) {
        check::required(causes, "data[username]", "");
        check::required(causes, "data[password]", "");
    }
    for key in required_keys(kind) {
        match at(object, "data").get(*key) {
            None => check::required(causes, &format!("data[{key}]"), ""),
            Some(value) if key.starts_with(".docker") && !is_json(value) => {
                let redacted = "<secret contents redacted>".into();
                check::invalid(causes, &format!("data[{key}]"), &redacted, "must be a JSON object");
            }
            Some(_) => {}
        }
    }
}

impl Resource for Secrets {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn default(&self, object: &mut Value) {
        default_if_zero(object, "type", "Opaque");
        merge_string_data(object);
    }

    fn prepare_for_update(&self, _context: &WriteContext, new: &mut Value, old: &Value) {
        if is_empty(new, "type") {
            copy(new, old, "type");
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let mut total_bytes = 0;
        for (key, value) in entries(object, "data") {
            check::config_key(causes, &format!("data[{key}]"), key);
            total_bytes += check::base64_len(causes, &format!("data[{key}]"), value);
        }
        if total_bytes > DATA_BYTES_MAX {
            check::too_long(causes, "data", DATA_BYTES_MAX);
        }
        validate_type(object, causes);
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        check::immutable(causes, "type", at(new, "type"), at(old, "type"));
        immutable_data(new, old, &["data"], causes);
    }

    fn fields(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn field(&self, object: &Value, path: &str) -> Option<String> {
        (path == "type").then(|| text(object, "type").to_owned())
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        vec![
            columns::name(object),
            text(object, "type").into(),
            size(object, "data").into(),
            columns::age(object, now_unix_s),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{errors, update_errors};
    use serde_json::json;

    #[test]
    fn string_data_becomes_data() {
        let mut secret = json!({"stringData": {"a": "hello"}, "data": {"b": "Yg=="}});
        Secrets.default(&mut secret);
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "aGVsbG8=", "b": "Yg=="}}));
    }

    #[test]
    fn types_ask_for_their_keys() {
        assert_eq!(
            errors(&Secrets, json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}})),
            vec!["data[tls.key]: Required value"]
        );
        assert!(errors(&Secrets, json!({"type": "example.com/own"})).is_empty());
        let docker = |text: &str| {
            let kind = "kubernetes.io/dockerconfigjson";
            errors(&Secrets, json!({"type": kind, "stringData": {".dockerconfigjson": text}})).len()
        };
        assert_eq!((docker("{}"), docker("x")), (0, 1));
    }

    #[test]
    fn the_type_stays() {
        let errors = update_errors(&Secrets, json!({"type": "b"}), json!({"type": "a"}));
        assert_eq!(errors, vec!["type: Invalid value: \"b\": field is immutable"]);
    }
}
