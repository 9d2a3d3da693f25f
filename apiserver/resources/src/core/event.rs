use keelstone_machinery::{field::Causes, ResourceInfo};
use keelstone_registry::{Column, Resource};
use serde_json::Value;

use crate::check;
use crate::columns::{self, column, wide};
use crate::constants::{EVENT_MESSAGE_BYTES_MAX, EVENT_REASON_BYTES_MAX};
use crate::json::{at, has, int, text};
use crate::strategy;

/// Event, v1.
pub struct Events;

static INFO: ResourceInfo = ResourceInfo {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    categories: &[],
    namespaced: true,
    verbs: strategy::VERBS,
    subresources: &[],
};

static COLUMNS: &[Column] = &[
    column("Last Seen", "string", "The time since the event was last seen."),
    column("Type", "string", "Normal or Warning."),
    column("Reason", "string", "The cause in one word, for machines."),
    column("Object", "string", "The object that the event is about."),
    wide("Subobject", "string", "The part of the object that the event is about."),
    wide("Source", "string", "The component that reports the event."),
    column("Message", "string", "What happened, for people."),
    wide("First Seen", "string", "The time since the event was first seen."),
    wide("Count", "string", "How often the event was seen."),
    Column { priority: 1, ..columns::NAME },
];

static FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// The first of these fields that is set.
fn first<'a>(object: &'a Value, paths: &[&str]) -> &'a str {
    paths.iter().map(|path| text(object, path)).find(|value| !value.is_empty()).unwrap_or("")
}

/// The object in the form `pod/name`.
fn target(object: &Value) -> String {
    let kind = text(object, "involvedObject.kind").to_lowercase();
    match text(object, "involvedObject.name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(object: &Value) -> String {
    let component = first(object, &["source.component", "reportingComponent"]);
    match first(object, &["source.host", "reportingInstance"]) {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    }
}

fn count(object: &Value) -> i64 {
    match int(object, "series.count") {
        Some(count) => count,
        None => int(object, "count").filter(|count| *count != 0).unwrap_or(1),
    }
}

/// Rules for events made through the events.k8s.io form, which have an eventTime.
fn validate_new_form(object: &Value, causes: &mut Causes) {
    for (field, name) in [("reportingComponent", "reportingController"), ("reportingInstance", "reportingInstance")] {
        if text(object, field).is_empty() {
            check::required(causes, name, "");
        }
    }
    if text(object, "reason").is_empty() {
        check::required(causes, "reason", "");
    }
    if text(object, "action").is_empty() {
        check::required(causes, "action", "");
    }
}

impl Resource for Events {
    fn info(&self) -> &'static ResourceInfo {
        &INFO
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let namespace = text(object, "metadata.namespace");
        let involved = text(object, "involvedObject.namespace");
        // Events about objects without a namespace live in `default`.
        let expected = if involved.is_empty() { "default" } else { involved };
        if namespace != expected && !(involved.is_empty() && namespace == "kube-system") && !namespace.is_empty() {
            check::invalid(causes, "involvedObject.namespace", &involved.into(), "does not match event.namespace");
        }
        if !has(object, "eventTime") {
            return;
        }
        validate_new_form(object, causes);
        check::one_of(causes, "type", text(object, "type"), &["Normal", "Warning"]);
        if text(object, "reason").len() > EVENT_REASON_BYTES_MAX {
            let detail = format!("can have at most {EVENT_REASON_BYTES_MAX} characters");
            check::invalid(causes, "reason", at(object, "reason"), &detail);
        }
        if text(object, "message").len() > EVENT_MESSAGE_BYTES_MAX {
            let detail = format!("can have at most {EVENT_MESSAGE_BYTES_MAX} characters");
            check::invalid(causes, "message", &"".into(), &detail);
        }
    }

    fn fields(&self) -> &'static [&'static str] {
        FIELDS
    }

    fn field(&self, object: &Value, path: &str) -> Option<String> {
        match path {
            "source" => Some(first(object, &["source.component", "reportingComponent"]).to_owned()),
            _ => FIELDS.contains(&path).then(|| text(object, path).to_owned()),
        }
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now_unix_s: i64) -> Vec<Value> {
        let first_seen = first(object, &["firstTimestamp", "eventTime"]);
        let last_seen = match first(object, &["series.lastObservedTime", "lastTimestamp"]) {
            "" => first_seen,
            last => last,
        };
        vec![
            columns::since(last_seen, now_unix_s).into(),
            text(object, "type").into(),
            text(object, "reason").into(),
            target(object).into(),
            text(object, "involvedObject.fieldPath").into(),
            source(object).into(),
            text(object, "message").trim().into(),
            columns::since(first_seen, now_unix_s).into(),
            count(object).into(),
            columns::name(object),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cells, errors};
    use serde_json::json;

    fn event() -> Value {
        json!({
            "metadata": {"name": "a.1", "namespace": "n"},
            "involvedObject": {"kind": "Pod", "name": "a", "namespace": "n"},
            "reason": "Started", "type": "Normal", "message": "started a \n",
            "source": {"component": "agent", "host": "w1"},
            "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:01:00Z", "count": 2,
        })
    }

    #[test]
    fn row() {
        assert_eq!(
            cells(&Events, &event(), 90),
            vec!["30s", "Normal", "Started", "pod/a", "", "agent, w1", "started a", "90s", "2", "a.1"]
        );
    }

    #[test]
    fn the_namespace_is_the_objects() {
        let mut wrong = event();
        wrong["involvedObject"]["namespace"] = "m".into();
        assert_eq!(
            errors(&Events, wrong),
            vec!["involvedObject.namespace: Invalid value: \"m\": does not match event.namespace"]
        );
        assert!(errors(&Events, event()).is_empty());
    }

    #[test]
    fn sources_can_be_selected() {
        assert_eq!(Events.field(&event(), "source").as_deref(), Some("agent"));
        assert_eq!(Events.field(&event(), "spec"), None);
    }

    #[test]
    fn bounds_of_the_new_form() {
        let mut new = event();
        for (key, value) in [
            ("eventTime", "1970-01-01T00:00:00Z"),
            ("reportingComponent", "a"),
            ("reportingInstance", "b"),
            ("action", "c"),
        ] {
            new[key] = value.into();
        }
        new["reason"] = "x".repeat(EVENT_REASON_BYTES_MAX).into();
        new["message"] = "x".repeat(EVENT_MESSAGE_BYTES_MAX).into();
        assert!(errors(&Events, new.clone()).is_empty());
        new["reason"] = "x".repeat(EVENT_REASON_BYTES_MAX + 1).into();
        new["message"] = "x".repeat(EVENT_MESSAGE_BYTES_MAX + 1).into();
        assert_eq!(errors(&Events, new).len(), 2);
    }
}
