//! Access to an object's type and metadata. Missing or mistyped fields read as empty.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

use crate::gvk::{parse_api_version, GroupVersionKind};

/// An API object: a JSON map with apiVersion, kind and metadata.
pub type Object = Value;

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    field(object, key).and_then(Value::as_str).unwrap_or_default()
}

fn field<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get("metadata")?.get(key)
}

/// The metadata map, created if it is missing or not a map. `None` only if the object is no map.
pub fn metadata_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = object.as_object_mut()?.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// Sets one field of the metadata; `Null` removes it.
pub fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(metadata) = metadata_mut(object) {
        if value.is_null() {
            metadata.remove(key);
        } else {
            metadata.insert(key.to_owned(), value);
        }
    }
}

fn set_text(object: &mut Value, key: &str, value: &str) {
    set(object, key, if value.is_empty() { Value::Null } else { Value::from(value) });
}

pub fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

pub fn gvk(object: &Value) -> GroupVersionKind {
    let (group, version) = parse_api_version(api_version(object));
    GroupVersionKind::new(group, version, kind(object))
}

pub fn set_gvk(object: &mut Value, gvk: &GroupVersionKind) {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), Value::from(gvk.api_version()));
        map.insert("kind".into(), Value::from(gvk.kind.as_str()));
    }
}

pub fn name(object: &Value) -> &str {
    text(object, "name")
}

pub fn set_name(object: &mut Value, value: &str) {
    set_text(object, "name", value);
}

pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

pub fn set_namespace(object: &mut Value, value: &str) {
    set_text(object, "namespace", value);
}

pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub fn set_uid(object: &mut Value, value: &str) {
    set_text(object, "uid", value);
}

pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

pub fn set_resource_version(object: &mut Value, value: &str) {
    set_text(object, "resourceVersion", value);
}

pub fn generation(object: &Value) -> i64 {
    field(object, "generation").and_then(Value::as_i64).unwrap_or(0)
}

pub fn set_generation(object: &mut Value, value: i64) {
    set(object, "generation", Value::from(value));
}

/// RFC 3339, or empty.
pub fn creation_timestamp(object: &Value) -> &str {
    text(object, "creationTimestamp")
}

pub fn set_creation_timestamp(object: &mut Value, value: &str) {
    set_text(object, "creationTimestamp", value);
}

/// RFC 3339; `Some` once the deletion has begun.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    field(object, "deletionTimestamp").and_then(Value::as_str).filter(|t| !t.is_empty())
}

pub fn set_deletion_timestamp(object: &mut Value, value: &str) {
    set_text(object, "deletionTimestamp", value);
}

/// Seconds, once the deletion has begun.
pub fn deletion_grace_period_s(object: &Value) -> Option<i64> {
    field(object, "deletionGracePeriodSeconds").and_then(Value::as_i64)
}

pub fn set_deletion_grace_period_s(object: &mut Value, value: Option<i64>) {
    set(object, "deletionGracePeriodSeconds", value.map_or(Value::Null, Value::from));
}

fn texts<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = field(object, key).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// The labels, in the order of their keys.
pub fn labels(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    texts(object, "labels")
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    field(object, "labels")?.get(key)?.as_str()
}

/// The labels as the map that selectors match.
pub fn labels_map(object: &Value) -> BTreeMap<String, String> {
    labels(object).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The annotations, in the order of their keys.
pub fn annotations(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    texts(object, "annotations")
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    field(object, "annotations")?.get(key)?.as_str()
}

fn set_entry(object: &mut Value, map: &str, key: &str, value: Option<&str>) {
    let Some(metadata) = metadata_mut(object) else { return };
    let Some(value) = value else {
        if let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) {
            entries.remove(key);
            if entries.is_empty() {
                metadata.remove(map);
            }
        }
        return;
    };
    let entries = metadata.entry(map).or_insert_with(|| Value::Object(Map::new()));
    if !entries.is_object() {
        *entries = Value::Object(Map::new());
    }
    if let Some(entries) = entries.as_object_mut() {
        entries.insert(key.to_owned(), Value::from(value));
    }
}

/// Sets a label; `None` removes it.
pub fn set_label(object: &mut Value, key: &str, value: Option<&str>) {
    set_entry(object, "labels", key, value);
}

/// Sets an annotation; `None` removes it.
pub fn set_annotation(object: &mut Value, key: &str, value: Option<&str>) {
    set_entry(object, "annotations", key, value);
}

pub fn owner_references(object: &Value) -> &[Value] {
    field(object, "ownerReferences").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The owner that manages this object, if one does.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|o| o.get("controller").and_then(Value::as_bool) == Some(true))
}

pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = field(object, "finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub fn set_finalizers(object: &mut Value, finalizers: &[&str]) {
    let list = if finalizers.is_empty() { Value::Null } else { finalizers.iter().copied().collect() };
    set(object, "finalizers", list);
}

pub fn managed_fields(object: &Value) -> &[Value] {
    field(object, "managedFields").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `metadata.resourceVersion` as a number; `None` if it is empty or not one.
pub fn resource_version_number(object: &Value) -> Option<u64> {
    resource_version(object).parse().ok()
}

/// Whole seconds in UTC, as the API writes `Time`: `2026-01-02T03:04:05Z`.
pub fn now_rfc3339(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    rfc3339_from_unix(i64::try_from(seconds).unwrap_or(0))
}

/// As `now_rfc3339`, from seconds since 1970.
pub fn rfc3339_from_unix(seconds: i64) -> String {
    let when = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, clock) = (when.date(), when.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

/// Microseconds in UTC, as the API writes `MicroTime`: `2026-01-02T03:04:05.000006Z`.
pub fn now_micro_time(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    micro_time_from_unix(i64::try_from(since.as_secs()).unwrap_or(0), since.subsec_nanos())
}

pub(crate) fn micro_time_from_unix(seconds: i64, nanoseconds: u32) -> String {
    let mut text = rfc3339_from_unix(seconds);
    text.pop();
    format!("{text}.{:06}Z", nanoseconds / 1000)
}

/// Seconds since 1970 and nanoseconds of an RFC 3339 text (`Time` or `MicroTime`).
pub fn parse_rfc3339(text: &str) -> Option<(i64, u32)> {
    let when = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some((when.unix_timestamp(), when.nanosecond()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_and_writes_metadata() {
        let mut object =
            json!({"metadata": {"name": "a", "labels": {"x": "1"}, "ownerReferences": [{"controller": true}]}});
        assert_eq!((name(&object), namespace(&object), label(&object, "x")), ("a", "", Some("1")));
        assert!(controller_of(&object).is_some());
        set_label(&mut object, "x", None);
        set_annotation(&mut object, "y", Some("2"));
        set_deletion_grace_period_s(&mut object, Some(0));
        set_namespace(&mut object, "");
        assert_eq!(
            object["metadata"],
            json!({"name": "a", "annotations": {"y": "2"}, "ownerReferences": [{"controller": true}], "deletionGracePeriodSeconds": 0})
        );
    }

    #[test]
    fn wrong_types_read_as_empty() {
        for object in [json!(null), json!([]), json!({"metadata": 1}), json!({"metadata": {"labels": [], "name": 1}})] {
            assert_eq!((name(&object), labels(&object).count(), finalizers(&object).len()), ("", 0, 0));
        }
    }

    #[test]
    fn times() {
        let now = UNIX_EPOCH + Duration::new(1_700_000_000, 1_234_567);
        assert_eq!(now_rfc3339(now), "2023-11-14T22:13:20Z");
        assert_eq!(now_micro_time(now), "2023-11-14T22:13:20.001234Z");
        assert_eq!(parse_rfc3339("2023-11-14T23:13:20.001234+01:00"), Some((1_700_000_000, 1_234_000)));
        assert_eq!(parse_rfc3339("2023-11-14"), None);
    }
}
