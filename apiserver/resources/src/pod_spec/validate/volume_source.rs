//! The rules of what volumes are made from.

use keelstone_machinery::field::Causes;
use serde_json::Value;

use super::container::local_path;
use super::env::{field_ref, resource_field_ref};
use crate::check;
use crate::json::{at, has, int, is_empty, items, text};

const MODE_MAX: i64 = 0o777;
const TOKEN_EXPIRATION_S_MIN: i64 = 600;
const TOKEN_EXPIRATION_S_MAX: i64 = 1 << 32;
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
/// Fields of the pod that a file may take its content from.
const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

pub fn check(kind: &str, source: &Value, path: &str, causes: &mut Causes) {
    match kind {
        "emptyDir" => {
            let limit = at(source, "sizeLimit");
            if !limit.is_null() {
                check::quantity(causes, &format!("{path}.sizeLimit"), limit);
            }
        }
        "hostPath" => host_path(source, path, causes),
        "secret" => {
            require(source, "secretName", path, causes);
            mode(source, path, causes);
            key_paths(source, path, causes);
        }
        "configMap" => {
            require(source, "name", path, causes);
            mode(source, path, causes);
            key_paths(source, path, causes);
        }
        "downwardAPI" => {
            mode(source, path, causes);
            downward_items(source, path, causes);
        }
        "projected" => projected(source, path, causes),
        "persistentVolumeClaim" => require(source, "claimName", path, causes),
        "nfs" => {
            require(source, "server", path, causes);
            require(source, "path", path, causes);
        }
        "csi" => require(source, "driver", path, causes),
        _ => {}
    }
}

fn require(source: &Value, field: &str, path: &str, causes: &mut Causes) {
    if is_empty(source, field) {
        check::required(causes, &format!("{path}.{field}"), "");
    }
}

fn host_path(source: &Value, path: &str, causes: &mut Causes) {
    let target = text(source, "path");
    if target.is_empty() {
        check::required(causes, &format!("{path}.path"), "");
    } else if target.split('/').any(|part| part == "..") {
        check::invalid(causes, &format!("{path}.path"), &target.into(), "must not contain '..'");
    }
    check::one_of(causes, &format!("{path}.type"), text(source, "type"), HOST_PATH_TYPES);
}

fn mode(source: &Value, path: &str, causes: &mut Causes) {
    check_mode(int(source, "defaultMode"), &format!("{path}.defaultMode"), causes);
}

fn check_mode(mode: Option<i64>, path: &str, causes: &mut Causes) {
    if let Some(mode) = mode.filter(|mode| !(0..=MODE_MAX).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        check::invalid(causes, path, &mode.into(), detail);
    }
}

/// A path of a file inside the volume.
fn file_path(item: &Value, path: &str, causes: &mut Causes) {
    let path = format!("{path}.path");
    let target = text(item, "path");
    if target.is_empty() {
        check::required(causes, &path, "");
        return;
    }
    local_path(causes, &path, target);
    if target.starts_with("..") && target.split('/').next() != Some("..") {
        check::invalid(causes, &path, &target.into(), "must not start with '..'");
    }
}

fn key_paths(source: &Value, path: &str, causes: &mut Causes) {
    for (index, item) in items(source, "items").iter().enumerate() {
        let path = format!("{path}.items[{index}]");
        require(item, "key", &path, causes);
        file_path(item, &path, causes);
        check_mode(int(item, "mode"), &format!("{path}.mode"), causes);
    }
}

fn downward_items(source: &Value, path: &str, causes: &mut Causes) {
    for (index, item) in items(source, "items").iter().enumerate() {
        let path = format!("{path}.items[{index}]");
        file_path(item, &path, causes);
        check_mode(int(item, "mode"), &format!("{path}.mode"), causes);
        match (has(item, "fieldRef"), has(item, "resourceFieldRef")) {
            (true, true) => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                check::invalid(causes, &path, &"resource".into(), detail);
            }
            (true, false) => field_ref(&item["fieldRef"], &format!("{path}.fieldRef"), FILE_FIELDS, causes),
            (false, true) => {
                resource_field_ref(&item["resourceFieldRef"], &format!("{path}.resourceFieldRef"), true, causes);
            }
            (false, false) => {
                check::required(causes, &path, "one of fieldRef and resourceFieldRef is required");
            }
        }
    }
}

fn projected(source: &Value, path: &str, causes: &mut Causes) {
    mode(source, path, causes);
    for (index, part) in items(source, "sources").iter().enumerate() {
        let path = format!("{path}.sources[{index}]");
        let mut found = 0;
        for (kind, value) in part.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            found += 1;
            let path = format!("{path}.{kind}");
            if found > 1 {
                check::forbidden(causes, &path, "may not specify more than 1 volume type per source");
            } else {
                projection(kind, value, &path, causes);
            }
        }
        if found == 0 {
            check::required(causes, &path, "must specify a source");
        }
    }
}

fn projection(kind: &str, source: &Value, path: &str, causes: &mut Causes) {
    match kind {
        "secret" | "configMap" => {
            require(source, "name", path, causes);
            key_paths(source, path, causes);
        }
        "downwardAPI" => downward_items(source, path, causes),
        "serviceAccountToken" => {
            file_path(source, path, causes);
            let seconds = int(source, "expirationSeconds").unwrap_or(TOKEN_EXPIRATION_S_MIN);
            let path = format!("{path}.expirationSeconds");
            if seconds < TOKEN_EXPIRATION_S_MIN {
                let detail = "may not specify a duration less than 10 minutes";
                check::invalid(causes, &path, &seconds.into(), detail);
            } else if seconds > TOKEN_EXPIRATION_S_MAX {
                let detail = "may not specify a duration larger than 2^32 seconds";
                check::invalid(causes, &path, &seconds.into(), detail);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::errors;
    use serde_json::{json, Value};

    fn volume(kind: &str, source: Value) -> Vec<String> {
        errors(|s| {
            s["volumes"] = json!([{"name": "v"}]);
            s["volumes"][0][kind] = source;
        })
    }

    #[test]
    fn required_parts() {
        for (kind, field) in [
            ("secret", "secretName"),
            ("configMap", "name"),
            ("persistentVolumeClaim", "claimName"),
            ("hostPath", "path"),
        ] {
            assert_eq!(volume(kind, json!({})), vec![format!("spec.volumes[0].{kind}.{field}: Required value")]);
        }
        assert!(volume("emptyDir", json!({"sizeLimit": "1Gi"})).is_empty());
        assert_eq!(volume("emptyDir", json!({"sizeLimit": "-1"})).len(), 1);
        assert_eq!(volume("hostPath", json!({"path": "/a/../b", "type": "x"})).len(), 2);
    }

    #[test]
    fn modes_at_the_limit() {
        for (mode, count) in [(-1, 1), (0, 0), (511, 0), (512, 1)] {
            assert_eq!(volume("secret", json!({"secretName": "s", "defaultMode": mode})).len(), count, "{mode}");
        }
    }

    #[test]
    fn files_stay_inside() {
        let item = |path: &str| volume("configMap", json!({"name": "c", "items": [{"key": "k", "path": path}]}));
        assert!(item("a/b").is_empty());
        assert_eq!((item("/a").len(), item("a/../b").len(), item("..a").len(), item("").len()), (1, 1, 1, 1));
    }

    #[test]
    fn projections() {
        let token = |seconds: i64| {
            let source = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": seconds}});
            volume("projected", json!({"sources": [source]}))
        };
        assert!(token(600).is_empty() && token(1 << 32).is_empty());
        assert_eq!((token(599).len(), token((1 << 32) + 1).len()), (1, 1));
        assert_eq!(volume("projected", json!({"sources": [{}]})).len(), 1);
        let file = |source: Value| volume("downwardAPI", json!({"items": [source]}));
        assert!(file(json!({"path": "a", "fieldRef": {"fieldPath": "metadata.labels"}})).is_empty());
        assert_eq!(file(json!({"path": "a"})).len(), 1);
    }
}
