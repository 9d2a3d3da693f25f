use std::collections::BTreeMap;

use serde_yaml_ng::Value;

use super::{error::FlagsError, read::check, table};

/// Keys of the two sections with TLS settings and the flags that they stand for: `(section, key, flag)`.
const SECTIONS: &[(&str, &str, &str)] = &[
    ("client-transport-security", "cert-file", "cert-file"),
    ("client-transport-security", "key-file", "key-file"),
    ("client-transport-security", "client-cert-auth", "client-cert-auth"),
    ("client-transport-security", "trusted-ca-file", "trusted-ca-file"),
    ("client-transport-security", "auto-tls", "auto-tls"),
    ("client-transport-security", "crl-file", "client-crl-file"),
    ("client-transport-security", "client-cert-allowed-hostname", "client-cert-allowed-hostname"),
    ("peer-transport-security", "cert-file", "peer-cert-file"),
    ("peer-transport-security", "key-file", "peer-key-file"),
    ("peer-transport-security", "client-cert-auth", "peer-client-cert-auth"),
    ("peer-transport-security", "trusted-ca-file", "peer-trusted-ca-file"),
    ("peer-transport-security", "auto-tls", "peer-auto-tls"),
    ("peer-transport-security", "crl-file", "peer-crl-file"),
    ("peer-transport-security", "allowed-cn", "peer-cert-allowed-cn"),
    ("peer-transport-security", "allowed-hostname", "peer-cert-allowed-hostname"),
    ("peer-transport-security", "skip-client-san-verification", "peer-skip-client-san-verification"),
];

/// Reads a configuration file with etcd's keys: the flags' names, and the TLS sections. Also returns the keys
/// that mean nothing here; etcd passes over them as well.
///
/// # Errors
/// If it is no YAML mapping or a value cannot be read as its flag.
pub fn config_file(text: &str) -> Result<(BTreeMap<&'static str, String>, Vec<String>), FlagsError> {
    let root: Value = serde_yaml_ng::from_str(text).map_err(|error| FlagsError::Refused(error.to_string()))?;
    let (mut given, mut unknown) = (BTreeMap::new(), Vec::new());
    let entries = match root {
        Value::Null => return Ok((given, unknown)),
        Value::Mapping(entries) => entries,
        _ => return Err(FlagsError::Refused("the configuration file is no mapping".into())),
    };
    for (key, value) in entries {
        let key = key.as_str().map(str::to_owned).unwrap_or_default();
        match value {
            Value::Mapping(section) => {
                for (inner, value) in section {
                    let inner = inner.as_str().unwrap_or_default();
                    let flag = SECTIONS.iter().find(|(section, name, _)| *section == key && *name == inner);
                    match flag {
                        Some((_, _, flag)) => take(&mut given, flag, &value)?,
                        None => unknown.push(format!("{key}.{inner}")),
                    }
                }
            }
            value if table::find(&key).is_some() && key != "config-file" => take(&mut given, &key, &value)?,
            _ => unknown.push(key),
        }
    }
    Ok((given, unknown))
}

fn take(given: &mut BTreeMap<&'static str, String>, name: &str, value: &Value) -> Result<(), FlagsError> {
    let Some(flag) = table::find(name) else { return Ok(()) };
    let Some(text) = text(value) else {
        return Err(FlagsError::Refused(format!("the configuration file's {name} is neither a value nor a list")));
    };
    if text.is_empty() {
        return Ok(());
    }
    // Durations may be written as nanoseconds.
    let text = match (flag.kind, text.parse::<u64>()) {
        (table::Kind::Duration, Ok(ns)) if ns > 0 => format!("{ns}ns"),
        _ => text,
    };
    check(flag, &text)
        .map_err(|why| FlagsError::Refused(format!("the configuration file's {name}: \"{text}\": {why}")))?;
    given.insert(flag.name, text);
    Ok(())
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        Value::Sequence(values) => Some(values.iter().map(text).collect::<Option<Vec<_>>>()?.join(",")),
        Value::Mapping(_) | Value::Tagged(_) => None,
    }
}
