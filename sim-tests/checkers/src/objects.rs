//! The store's log as changes of Kubernetes objects.

use serde_json::Value;

use crate::Event;

/// The magic and version of the stored envelope come before the JSON.
const ENVELOPE_BYTES: usize = 4;

/// One change of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub revision: i64,
    /// `pods`
    pub resource: String,
    /// `namespace/name`, or `name`.
    pub name: String,
    /// `None`: it was removed.
    pub object: Option<Value>,
}

/// The changes under `/registry/<group>/<resource>/`. What is not JSON in the envelope is left out.
pub fn changes(log: &[Event]) -> Vec<Change> {
    log.iter().filter_map(change).collect()
}

fn change(event: &Event) -> Option<Change> {
    let (_group, rest) = event.key.strip_prefix("/registry/")?.split_once('/')?;
    let (resource, name) = rest.split_once('/')?;
    let object = match &event.value {
        Some(text) => Some(serde_json::from_str(text.get(ENVELOPE_BYTES..)?).ok()?),
        None => None,
    };
    Some(Change { revision: event.revision, resource: resource.to_owned(), name: name.to_owned(), object })
}

/// The text at a place, or nothing.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Thousandths of a core of `300m` or `2`; 0 for what is no such quantity.
pub fn cpu_millis(quantity: &Value) -> i64 {
    match quantity.as_str() {
        Some(text) => match text.strip_suffix('m') {
            Some(millis) => millis.parse().unwrap_or(0),
            None => text.parse::<f64>().map_or(0, |cores| (cores * 1_000.0) as i64),
        },
        None => quantity.as_i64().unwrap_or(0) * 1_000,
    }
}

/// It is on its way out, or has run to its end.
pub fn is_over(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null() || is_finished(object)
}

/// A pod that has run to its end.
pub fn is_finished(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
}

/// What happened, for people: the last lines are told with a violation.
#[derive(Clone, Debug, Default)]
pub struct Story(Vec<String>);

impl Story {
    const LINES_MAX: usize = 40;

    pub fn tell(&mut self, revision: i64, what: &str) {
        self.0.push(format!("  {revision}: {what}"));
    }

    /// `what`, and what came before it.
    pub fn after(&self, what: &str) -> String {
        let last = &self.0[self.0.len().saturating_sub(Self::LINES_MAX)..];
        format!("{what}; before it:\n{}", last.join("\n"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A change of `default/<name>`.
    pub(crate) fn set(revision: i64, resource: &str, name: &str, object: Value) -> Change {
        Change { revision, resource: resource.into(), name: format!("default/{name}"), object: Some(object) }
    }

    pub(crate) fn gone(revision: i64, resource: &str, name: &str) -> Change {
        Change { revision, resource: resource.into(), name: format!("default/{name}"), object: None }
    }

    #[test]
    fn the_log_is_read_as_changes() {
        let event =
            |key: &str, value: Option<&str>| Event { revision: 3, key: key.into(), value: value.map(Into::into) };
        let log = [
            event("/registry/core/pods/default/a", Some("kso\u{1}{\"spec\":{}}")),
            event("/registry/core/nodes/n", None),
            event("compact_rev_key", Some("1")),
        ];
        let read = changes(&log);
        assert_eq!(read[0], set(3, "pods", "a", json!({"spec": {}})));
        assert_eq!((read[1].name.as_str(), &read[1].object, read.len()), ("n", &None, 2));
    }

    #[test]
    fn quantities_are_read() {
        assert_eq!([json!("300m"), json!("2"), json!(1), json!("x")].map(|q| cpu_millis(&q)), [300, 2_000, 1_000, 0]);
    }
}
