//! The rules of volumes.

use std::collections::BTreeSet;

use keelstone_machinery::field::Causes;
use serde_json::Value;

use super::volume_source;
use crate::check;
use crate::json::text;

/// Checks all volumes; the names that can be mounted.
pub fn check_all<'a>(volumes: &'a [Value], path: &str, causes: &mut Causes) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = text(volume, "name");
        if name.is_empty() {
            check::required(causes, &format!("{path}.name"), "");
        } else {
            check::dns_label(causes, &format!("{path}.name"), name);
            if !names.insert(name) {
                check::duplicate(causes, &format!("{path}.name"), name);
            }
        }
        check_sources(volume, &path, causes);
    }
    names
}

fn check_sources(volume: &Value, path: &str, causes: &mut Causes) {
    let sources = volume.as_object().into_iter().flatten().filter(|(key, value)| *key != "name" && !value.is_null());
    let mut found = 0;
    for (kind, source) in sources {
        found += 1;
        let path = format!("{path}.{kind}");
        if found > 1 {
            check::forbidden(causes, &path, "may not specify more than 1 volume type");
        } else {
            volume_source::check(kind, source, &path, causes);
        }
    }
    if found == 0 {
        check::required(causes, path, "must specify a volume type");
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::errors;
    use serde_json::{json, Value};

    fn volumes(list: Value) -> Vec<String> {
        errors(|s| s["volumes"] = list)
    }

    #[test]
    fn names_and_types() {
        assert_eq!(
            volumes(json!([{"name": "a"}, {"name": "a"}, {}])),
            vec!["spec.volumes[1].name: Duplicate value: \"a\"", "spec.volumes[2].name: Required value"]
        );
        assert_eq!(
            volumes(json!([{"name": "a", "emptyDir": {}, "hostPath": {"path": "/a"}}])),
            vec!["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"]
        );
    }
}
