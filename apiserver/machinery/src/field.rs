//! Paths to fields and the errors found there, in the words of the Kubernetes API.

use std::fmt;

use serde_json::Value;

use crate::status::Cause;

/// The path to a field, shown as `spec.containers[0].ports[1].name` or `metadata.labels[app]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    /// Starts at a top-level field.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The object itself.
    pub fn root() -> Self {
        Self::default()
    }

    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self::new(name);
        }
        Self(format!("{}.{name}", self.0))
    }

    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of a map: `metadata.labels[app]`.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A collection of field errors; becomes the causes of a 422 Status (`ApiStatus::invalid`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    list: Vec<Cause>,
}

impl Causes {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn list(&self) -> &[Cause] {
        &self.list
    }

    pub fn into_vec(self) -> Vec<Cause> {
        self.list
    }

    pub fn push(&mut self, cause: Cause) {
        self.list.push(cause);
    }

    pub fn extend(&mut self, other: Causes) {
        self.list.extend(other.list);
    }

    fn add(&mut self, path: &Path, reason: &'static str, what: &str, value: Option<&Value>, detail: &str) {
        let mut message = what.to_owned();
        if let Some(value) = value {
            message.push_str(": ");
            message.push_str(&shown(value));
        }
        if !detail.is_empty() {
            message.push_str(": ");
            message.push_str(detail);
        }
        self.list.push(Cause { reason: reason.to_owned(), message, field: path.to_string() });
    }

    /// A value that breaks a rule: `Invalid value: "A": a lowercase RFC 1123 label must ...`.
    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: &str) {
        self.add(path, "FieldValueInvalid", "Invalid value", Some(&value.into()), detail);
    }

    /// A value of the wrong type.
    pub fn type_invalid(&mut self, path: &Path, value: impl Into<Value>, detail: &str) {
        self.add(path, "FieldValueTypeInvalid", "Invalid value", Some(&value.into()), detail);
    }

    /// A missing value: `Required value`.
    pub fn required(&mut self, path: &Path, detail: &str) {
        self.add(path, "FieldValueRequired", "Required value", None, detail);
    }

    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.add(path, "FieldValueDuplicate", "Duplicate value", Some(&value.into()), "");
    }

    pub fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.add(path, "FieldValueNotFound", "Not found", Some(&value.into()), "");
    }

    pub fn forbidden(&mut self, path: &Path, detail: &str) {
        self.add(path, "FieldValueForbidden", "Forbidden", None, detail);
    }

    /// A value outside a list: `Unsupported value: "x": supported values: "A", "B"`.
    pub fn not_supported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        let mut sorted = supported.to_vec();
        sorted.sort_unstable();
        let detail = if sorted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", sorted.iter().map(|s| quoted(s)).collect::<Vec<_>>().join(", "))
        };
        self.add(path, "FieldValueNotSupported", "Unsupported value", Some(&value.into()), &detail);
    }

    /// A value of more than `bytes_max` bytes.
    pub fn too_long(&mut self, path: &Path, bytes_max: usize) {
        let unit = if bytes_max == 1 { "byte" } else { "bytes" };
        self.add(path, "FieldValueTooLong", "Too long", None, &format!("may not be more than {bytes_max} {unit}"));
    }

    /// A list of more than `items_max` items.
    pub fn too_many(&mut self, path: &Path, actual: usize, items_max: usize) {
        let unit = if items_max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {items_max} {unit}");
        self.add(path, "FieldValueTooMany", "Too many", Some(&Value::from(actual)), &detail);
    }

    pub fn internal(&mut self, path: &Path, detail: &str) {
        self.add(path, "InternalError", "Internal error", None, detail);
    }

    /// The rule that `value` may not change from `old`: `field is immutable`.
    pub fn immutable(&mut self, path: &Path, value: &Value, old: &Value) {
        if value != old {
            self.invalid(path, value.clone(), "field is immutable");
        }
    }

    /// One `Invalid value` for each message, as the functions of `validation` give them.
    pub fn invalid_each(&mut self, path: &Path, value: &str, messages: &[String]) {
        for message in messages {
            self.invalid(path, value, message);
        }
    }
}

/// A value as Kubernetes shows it in an error: strings quoted, the rest as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A string in double quotes, as Go's %q makes it.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_causes_read_as_kubernetes_writes_them() {
        let path = Path::new("spec").child("containers").index(0).child("name");
        let mut causes = Causes::new();
        causes.required(&path, "");
        causes.invalid(&Path::new("metadata").child("labels").key("a"), "b\"", "must be x");
        causes.not_supported(&Path::new("type"), "z", &["B", "A"]);
        causes.invalid(&Path::new("spec").child("replicas"), -1, "must be greater than or equal to 0");
        let lines: Vec<String> = causes.list().iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        assert_eq!(
            lines,
            [
                "spec.containers[0].name: Required value",
                "metadata.labels[a]: Invalid value: \"b\\\"\": must be x",
                "type: Unsupported value: \"z\": supported values: \"A\", \"B\"",
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }
}
