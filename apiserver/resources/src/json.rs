//! Reading and writing fields of objects by a dotted path. A field of the wrong type reads as absent: types
//! are checked when the request is decoded, and nothing here may panic on what was stored or sent.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// The value at a dotted path (`spec.nodeName`); `Null` if any part is absent.
pub fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').try_fold(object, |value, key| value.get(key)).unwrap_or(&NULL)
}

/// The string at `path`; empty if absent.
pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    at(object, path).as_str().unwrap_or("")
}

/// The integer at `path`.
pub fn int(object: &Value, path: &str) -> Option<i64> {
    at(object, path).as_i64()
}

/// The boolean at `path`; absent reads as false, as in the API's types.
pub fn flag(object: &Value, path: &str) -> bool {
    at(object, path).as_bool().unwrap_or(false)
}

/// The list at `path`; empty if absent.
pub fn items<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    at(object, path).as_array().map_or(&[], Vec::as_slice)
}

/// The entries of the map at `path`, in key order; none if absent.
pub fn entries<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(object, path).as_object().into_iter().flatten()
}

/// The number of entries of the map at `path`.
pub fn size(object: &Value, path: &str) -> usize {
    at(object, path).as_object().map_or(0, Map::len)
}

/// True if the value at `path` is present and not null.
pub fn has(object: &Value, path: &str) -> bool {
    !at(object, path).is_null()
}

/// True if the value at `path` is absent, null, or empty (string, list or map).
pub fn is_empty(object: &Value, path: &str) -> bool {
    match at(object, path) {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(m) => m.is_empty(),
        _ => false,
    }
}

/// The map in `parent[key]`, created if absent or null; `None` if `parent` or the field is something else.
pub fn child<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let map = parent.as_object_mut()?;
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), Value::Object(Map::new()));
    }
    map.get_mut(key).filter(|v| v.is_object())
}

/// The existing value in `parent[key]`, for changing.
pub fn get_mut<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    parent.as_object_mut()?.get_mut(key)
}

/// The existing list in `parent[key]`, for changing; empty if absent.
pub fn items_mut<'a>(parent: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    get_mut(parent, key).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Sets `parent[key]`; does nothing if `parent` is not a map.
pub fn set(parent: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = parent.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

/// Removes `parent[key]`.
pub fn remove(parent: &mut Value, key: &str) {
    if let Some(map) = parent.as_object_mut() {
        map.remove(key);
    }
}

/// Makes `new[key]` what it is in `old`: copied, or removed.
pub fn copy(new: &mut Value, old: &Value, key: &str) {
    match old.get(key) {
        Some(value) => set(new, key, value.clone()),
        None => remove(new, key),
    }
}

/// Sets `parent[key]` if it is absent or null (a pointer field in the API's types).
pub fn default_if_absent(parent: &mut Value, key: &str, value: impl Into<Value>) {
    if parent.get(key).is_none_or(Value::is_null) {
        set(parent, key, value);
    }
}

/// Sets `parent[key]` if it is absent, null, empty or zero (a plain field in the API's types).
pub fn default_if_zero(parent: &mut Value, key: &str, value: impl Into<Value>) {
    let zero = match parent.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Number(n)) => n.as_i64() == Some(0),
        _ => false,
    };
    if zero {
        set(parent, key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_and_wrong_types_read_as_empty() {
        let object = json!({"spec": {"nodeName": "a", "n": 3, "list": [1], "map": {"k": 1}}});
        assert_eq!(text(&object, "spec.nodeName"), "a");
        assert_eq!(text(&object, "spec.n"), "");
        assert_eq!(int(&object, "spec.n"), Some(3));
        assert_eq!(items(&object, "spec.nodeName").len(), 0);
        assert_eq!(size(&object, "spec.map"), 1);
        assert!(is_empty(&object, "spec.missing.deeper"));
    }

    #[test]
    fn defaults_respect_what_is_set() {
        let mut object = json!({"a": 0, "b": "x", "c": null});
        default_if_zero(&mut object, "a", 5);
        default_if_zero(&mut object, "b", "y");
        default_if_absent(&mut object, "c", true);
        default_if_absent(&mut object, "a", 7);
        assert_eq!(object, json!({"a": 5, "b": "x", "c": true}));
    }
}
