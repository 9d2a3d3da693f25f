//! RFC 6902.

use serde_json::Value;

use crate::constants::{JSON_PATCH_COPY_BYTES_MAX, JSON_PATCH_OPERATIONS_MAX};
use crate::status::{ApiResult, ApiStatus};

use super::does_not_apply;

/// Applies a JSON patch (RFC 6902).
///
/// # Errors
/// 400 if it is malformed, 413 over the bounds, 422 if an operation does not fit the document.
pub fn json_patch(document: &Value, patch: &Value) -> ApiResult<Value> {
    let malformed = |what: &str| ApiStatus::bad_request(format!("error decoding patch: {what}"));
    let operations =
        patch.as_array().ok_or_else(|| malformed("json: cannot unmarshal into Go value of type jsonpatch.Patch"))?;
    if operations.len() > JSON_PATCH_OPERATIONS_MAX {
        return Err(ApiStatus::too_large(&format!(
            "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut out = document.clone();
    let mut copied_bytes = 0;
    for operation in operations {
        let text = |key: &str| operation.get(key).and_then(Value::as_str);
        let name = text("op").ok_or_else(|| malformed("operation has no op"))?;
        let path = text("path").ok_or_else(|| malformed("operation has no path"))?;
        let from = || text("from").ok_or_else(|| malformed("operation has no from"));
        let value = || operation.get("value").cloned().ok_or_else(|| malformed("operation has no value"));
        let done = match name {
            "add" => add(&mut out, path, value()?),
            "replace" => replace(&mut out, path, value()?),
            "remove" => remove(&mut out, path).map(drop),
            "move" => move_value(&mut out, from()?, path),
            "copy" => {
                let value = get(&out, from()?).cloned();
                if let Ok(value) = &value {
                    copied_bytes += value.to_string().len();
                    if copied_bytes > JSON_PATCH_COPY_BYTES_MAX {
                        return Err(ApiStatus::too_large(&format!(
                            "copies of a JSON patch are limited to {JSON_PATCH_COPY_BYTES_MAX} bytes"
                        )));
                    }
                }
                value.and_then(|value| add(&mut out, path, value))
            }
            // A missing value tests for null, as the reference does.
            "test" => test(&out, path, operation.get("value").unwrap_or(&Value::Null)),
            other => return Err(malformed(&format!("unexpected kind: {other}"))),
        };
        done.map_err(|error| match name {
            "test" => does_not_apply(error),
            _ => does_not_apply(format!("{name} operation does not apply: {error}")),
        })?;
    }
    Ok(out)
}

fn missing(path: &str) -> String {
    format!("doc is missing path: {path}: missing value")
}

/// The unescaped tokens of a pointer.
fn tokens(path: &str) -> Result<Vec<String>, String> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let rest = path.strip_prefix('/').ok_or_else(|| missing(path))?;
    Ok(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

/// An index of an existing item.
fn index(token: &str, length: usize) -> Option<usize> {
    let canonical = token == "0" || !token.starts_with(['0', '+', '-']);
    token.parse().ok().filter(|index| canonical && *index < length)
}

fn step<'a>(at: &'a mut Value, token: &str) -> Option<&'a mut Value> {
    match at {
        Value::Object(map) => map.get_mut(token),
        Value::Array(list) => index(token, list.len()).and_then(|index| list.get_mut(index)),
        _ => None,
    }
}

fn get<'a>(document: &'a Value, path: &str) -> Result<&'a Value, String> {
    let mut at = document;
    for token in tokens(path)? {
        at = match at {
            Value::Object(map) => map.get(&token),
            Value::Array(list) => index(&token, list.len()).and_then(|index| list.get(index)),
            _ => None,
        }
        .ok_or_else(|| missing(path))?;
    }
    Ok(at)
}

/// The container of a path's last token, and that token; `None` for the document itself.
fn parent<'a>(document: &'a mut Value, path: &str) -> Result<Option<(&'a mut Value, String)>, String> {
    let mut tokens = tokens(path)?;
    let Some(last) = tokens.pop() else { return Ok(None) };
    let mut at = document;
    for token in &tokens {
        at = step(at, token).ok_or_else(|| missing(path))?;
    }
    Ok(Some((at, last)))
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    match parent(document, path)? {
        None => *document = value,
        Some((Value::Object(map), key)) => {
            map.insert(key, value);
        }
        Some((Value::Array(list), key)) if key == "-" => list.push(value),
        Some((Value::Array(list), key)) => {
            let at = index(&key, list.len() + 1)
                .ok_or_else(|| format!("Unable to access invalid index: {key}: invalid index referenced"))?;
            list.insert(at, value);
        }
        Some(_) => return Err(missing(path)),
    }
    Ok(())
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    match parent(document, path)? {
        None => *document = value,
        Some((at, key)) => *step(at, &key).ok_or_else(|| format!("doc is missing key: {path}: missing value"))? = value,
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    match parent(document, path)? {
        None => Ok(document.take()),
        Some((Value::Object(map), key)) => {
            map.remove(&key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value"))
        }
        Some((Value::Array(list), key)) => match index(&key, list.len()) {
            Some(at) => Ok(list.remove(at)),
            None => Err(format!("Unable to access invalid index: {key}: invalid index referenced")),
        },
        Some(_) => Err(missing(path)),
    }
}

fn move_value(document: &mut Value, from: &str, path: &str) -> Result<(), String> {
    if path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
        return Err(format!("cannot move {from} into itself"));
    }
    let value = remove(document, from)?;
    add(document, path, value)
}

fn test(document: &Value, path: &str, expected: &Value) -> Result<(), String> {
    let actual = get(document, path).ok();
    if actual.unwrap_or(&Value::Null) == expected && (actual.is_some() || expected.is_null()) {
        return Ok(());
    }
    Err(format!("testing value {path} failed: test failed"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_of_the_standard() {
        let cases = [
            (
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/baz", "value": "qux"}]),
                json!({"foo": "bar", "baz": "qux"}),
            ),
            (
                json!({"foo": ["bar", "baz"]}),
                json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
                json!({"foo": ["bar", "qux", "baz"]}),
            ),
            (
                json!({"foo": ["a"]}),
                json!([{"op": "add", "path": "/foo/-", "value": ["b"]}]),
                json!({"foo": ["a", ["b"]]}),
            ),
            (json!({"a": 1, "b": 2}), json!([{"op": "remove", "path": "/a"}]), json!({"b": 2})),
            (json!({"a": [1, 2, 3]}), json!([{"op": "move", "from": "/a/0", "path": "/a/2"}]), json!({"a": [2, 3, 1]})),
            (
                json!({"a": {"b": 1}}),
                json!([{"op": "copy", "from": "/a", "path": "/c"}]),
                json!({"a": {"b": 1}, "c": {"b": 1}}),
            ),
            (
                json!({"a/b": 1, "m~n": 2}),
                json!([{"op": "test", "path": "/a~1b", "value": 1}, {"op": "replace", "path": "/m~0n", "value": null}]),
                json!({"a/b": 1, "m~n": null}),
            ),
            (json!({"a": 1}), json!([{"op": "replace", "path": "", "value": {"b": 1}}]), json!({"b": 1})),
            (json!({}), json!([{"op": "test", "path": "/a", "value": null}]), json!({})),
        ];
        for (document, patch, result) in cases {
            assert_eq!(json_patch(&document, &patch), Ok(result), "{patch}");
        }
    }

    #[test]
    fn failures_have_their_codes() {
        let document = json!({"a": [1], "b": {"c": 1}});
        let cases = [
            (json!({}), 400),
            (json!([{"path": "/a"}]), 400),
            (json!([{"op": "add", "path": "/a/0"}]), 400),
            (json!([{"op": "jump", "path": "/a", "value": 1}]), 400),
            (json!([{"op": "test", "path": "/a/0", "value": 2}]), 422),
            (json!([{"op": "remove", "path": "/x"}]), 422),
            (json!([{"op": "remove", "path": "/a/1"}]), 422),
            (json!([{"op": "replace", "path": "/b/d", "value": 1}]), 422),
            (json!([{"op": "add", "path": "/x/y", "value": 1}]), 422),
            (json!([{"op": "add", "path": "/a/01", "value": 1}]), 422),
            (json!([{"op": "add", "path": "/a/3", "value": 1}]), 422),
            (json!([{"op": "add", "path": "a", "value": 1}]), 422),
            (json!([{"op": "move", "from": "/b", "path": "/b/c/d"}]), 422),
        ];
        for (patch, code) in cases {
            assert_eq!(json_patch(&document, &patch).unwrap_err().code, code, "{patch}");
        }
    }

    #[test]
    fn bounds_hold_at_the_limit() {
        let operation = json!({"op": "test", "path": "", "value": {}});
        let patch = |count: usize| Value::Array(vec![operation.clone(); count]);
        assert!(json_patch(&json!({}), &patch(JSON_PATCH_OPERATIONS_MAX)).is_ok());
        assert_eq!(json_patch(&json!({}), &patch(JSON_PATCH_OPERATIONS_MAX + 1)).unwrap_err().code, 413);
        // Each copy doubles the document.
        let copies = |count: usize| {
            (0..count).map(|i| json!({"op": "copy", "from": "", "path": format!("/x{i}")})).collect::<Value>()
        };
        let document = json!({"a": "a".repeat(1000)});
        assert!(json_patch(&document, &copies(8)).is_ok());
        let error = json_patch(&document, &copies(40)).map(drop).unwrap_err();
        assert_eq!(error.code, 413);
    }

    proptest! {
        #[test]
        fn no_path_panics(op in "add|remove|replace|move|copy|test", path in "[/a01~-]{0,6}", from in "[/a01~-]{0,6}") {
            let document = json!({"a": [{"a": 1}, [0, 1]], "0": {"~": null}});
            let _ = json_patch(&document, &json!([{"op": op, "path": path, "from": from, "value": 1}]));
        }
    }
}
