//! Strategic merge patch: a merge patch in which lists merge by the keys that the schema names, with
//! directives (`$patch`, `$retainKeys`, `$setElementOrder/x`, `$deleteFromPrimitiveList/x`).

use serde_json::{Map, Value};

use crate::facts::{Facts, FieldFacts, Shape, TypeFacts};
use crate::gvk::GroupVersionKind;
use crate::status::{ApiResult, ApiStatus};

use super::{JSON_PATCH, MERGE_PATCH};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch: lists merge by the keys that the kind's schema names.
///
/// # Errors
/// 400 for a malformed patch or directive, 415 for a kind without a schema.
pub fn strategic_merge_patch(gvk: &GroupVersionKind, document: &Value, patch: &Value) -> ApiResult<Value> {
    let facts = Facts::global();
    let ty = facts.kind(gvk).ok_or_else(|| ApiStatus::unsupported_media_type(&[JSON_PATCH, MERGE_PATCH]))?;
    let (Value::Object(original), Value::Object(patch)) = (document, patch) else {
        return Err(ApiStatus::bad_request("invalid JSON document"));
    };
    let merger = Merger { facts };
    let mut out = original.clone();
    merger.map(&mut out, patch, Schema::Struct(ty)).map_err(ApiStatus::bad_request)?;
    Ok(Value::Object(out))
}

/// What is known of a map's entries.
#[derive(Clone, Copy)]
enum Schema<'a> {
    Struct(&'a TypeFacts),
    /// A map whose values all have one shape.
    Map(&'a Shape),
    Unknown,
}

struct Merger {
    facts: &'static Facts,
}

impl Merger {
    fn field<'a>(&self, schema: Schema<'a>, name: &str) -> Option<&'a FieldFacts> {
        match schema {
            Schema::Struct(ty) => ty.fields.get(name),
            _ => None,
        }
    }

    fn below<'a>(&'a self, schema: Schema<'a>, name: &str) -> Schema<'a> {
        let shape = match schema {
            Schema::Struct(ty) => ty.fields.get(name).map(|field| &field.shape),
            Schema::Map(shape) => Some(shape),
            Schema::Unknown => None,
        };
        match shape {
            Some(Shape::Struct(id)) => Schema::Struct(self.facts.get(*id)),
            Some(Shape::Map(inner)) => Schema::Map(inner),
            _ => Schema::Unknown,
        }
    }

    fn map(&self, original: &mut Map<String, Value>, patch: &Map<String, Value>, schema: Schema) -> Result<(), String> {
        match patch.get(DIRECTIVE).map(Value::as_str) {
            None => {}
            Some(Some("replace")) => {
                *original = clean_map(patch);
                return Ok(());
            }
            Some(Some("delete")) => {
                original.clear();
                return Ok(());
            }
            Some(other) => return Err(format!("unknown patch type found: {}", other.unwrap_or("no string"))),
        }
        if let Some(keys) = patch.get(RETAIN_KEYS) {
            retain_keys(original, patch, keys)?;
        }
        for (key, value) in patch {
            if key == RETAIN_KEYS {
                continue;
            }
            if let Some(name) = key.strip_prefix(DELETE_PRIMITIVES) {
                let gone = value.as_array().ok_or("invalid patch format of primitive list")?;
                if let Some(Value::Array(list)) = original.get_mut(name) {
                    list.retain(|item| !gone.contains(item));
                }
            } else if let Some(name) = key.strip_prefix(ELEMENT_ORDER) {
                if !patch.contains_key(name) {
                    self.reorder_only(original, name, value, schema)?;
                }
            } else {
                self.entry(original, patch, key, value, schema)?;
            }
        }
        Ok(())
    }

    fn entry(
        &self,
        original: &mut Map<String, Value>,
        patch: &Map<String, Value>,
        key: &str,
        value: &Value,
        schema: Schema,
    ) -> Result<(), String> {
        if value.is_null() {
            original.remove(key);
            return Ok(());
        }
        match (original.get_mut(key), value) {
            (Some(Value::Object(below)), Value::Object(patch)) => self.map(below, patch, self.below(schema, key)),
            (Some(Value::Array(list)), Value::Array(items)) => {
                let Some(field) = self.field(schema, key).filter(|field| field.patch_merge) else {
                    *list = clean_list(items);
                    return Ok(());
                };
                let before = list.clone();
                self.list(list, items, field)?;
                match patch.get(&format!("{ELEMENT_ORDER}{key}")) {
                    Some(order) => reorder(list, &before, order, field),
                    None => Ok(()),
                }
            }
            _ => {
                match clean(value) {
                    Some(value) => original.insert(key.to_owned(), value),
                    None => original.remove(key),
                };
                Ok(())
            }
        }
    }

    fn reorder_only(
        &self,
        original: &mut Map<String, Value>,
        name: &str,
        order: &Value,
        schema: Schema,
    ) -> Result<(), String> {
        let field = self.field(schema, name).filter(|field| field.patch_merge);
        if let (Some(Value::Array(list)), Some(field)) = (original.get_mut(name), field) {
            let before = list.clone();
            return reorder(list, &before, order, field);
        }
        Ok(())
    }

    fn list(&self, list: &mut Vec<Value>, items: &[Value], field: &FieldFacts) -> Result<(), String> {
        let Some(merge_key) = field.merge_key.as_deref().filter(|_| items.iter().chain(&*list).all(Value::is_object))
        else {
            for item in items {
                if item.is_object() || item.is_array() {
                    return Err("invalid patch format of primitive list".to_owned());
                }
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
            return Ok(());
        };
        if items.iter().any(|item| item.get(DIRECTIVE).is_some_and(|d| d == "replace")) {
            *list = clean_list(items);
            return Ok(());
        }
        let schema = match self.facts.struct_of(&field.shape) {
            Some(ty) => Schema::Struct(ty),
            None => Schema::Unknown,
        };
        for item in items.iter().filter_map(Value::as_object) {
            let key = item.get(merge_key).ok_or_else(|| {
                format!("map: {} does not contain declared merge key: {merge_key}", Value::Object(item.clone()))
            })?;
            let same = |other: &Value| other.get(merge_key) == Some(key);
            match item.get(DIRECTIVE).map(Value::as_str) {
                Some(Some("delete")) => list.retain(|other| !same(other)),
                Some(Some("merge")) => return Err("merging lists cannot yet be specified in the patch".to_owned()),
                Some(other) => return Err(format!("unknown patch type found: {}", other.unwrap_or("no string"))),
                None => match list.iter_mut().find(|other| same(other)) {
                    Some(Value::Object(found)) => self.map(found, item, schema)?,
                    _ => list.push(Value::Object(clean_map(item))),
                },
            }
        }
        Ok(())
    }
}

fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>, keys: &Value) -> Result<(), String> {
    let wrong = "invalid patch format of retainKeys";
    let keys = keys.as_array().ok_or(wrong)?;
    let kept = |key: &String| keys.iter().any(|k| k.as_str() == Some(key));
    let is_data = |key: &&String| !key.starts_with('$');
    if patch.iter().any(|(key, value)| is_data(&key) && !value.is_null() && !kept(key)) {
        return Err(wrong.to_owned());
    }
    let gone: Vec<String> = original.keys().filter(|key| !kept(key)).cloned().collect();
    for key in gone {
        original.remove(&key);
    }
    Ok(())
}

/// What of a patch's value becomes content where nothing was before: no directives, no nulls. `None` for a
/// deletion.
fn clean(value: &Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.get(DIRECTIVE).is_some_and(|d| d == "delete") => None,
        Value::Object(map) => Some(Value::Object(clean_map(map))),
        Value::Array(items) => Some(Value::Array(clean_list(items))),
        other => Some(other.clone()),
    }
}

fn clean_map(map: &Map<String, Value>) -> Map<String, Value> {
    let content = |key: &str| {
        key != DIRECTIVE && key != RETAIN_KEYS && !key.starts_with(ELEMENT_ORDER) && !key.starts_with(DELETE_PRIMITIVES)
    };
    let entries = map.iter().filter(|(key, value)| content(key) && !value.is_null());
    entries.filter_map(|(key, value)| Some((key.clone(), clean(value)?))).collect()
}

fn clean_list(items: &[Value]) -> Vec<Value> {
    let only_directive = |item: &Value| item.as_object().is_some_and(|m| m.len() == 1 && m.contains_key(DIRECTIVE));
    items.iter().filter(|item| !only_directive(item)).filter_map(clean).collect()
}

/// What tells an item from others: its merge key's value, or itself.
fn identity<'a>(item: &'a Value, field: &FieldFacts) -> &'a Value {
    match &field.merge_key {
        Some(key) if item.is_object() => item.get(key).unwrap_or(&Value::Null),
        _ => item,
    }
}

/// Orders a merged list: items that the client lists come in its order, the others keep their place among
/// those that were there `before`.
fn reorder(list: &mut Vec<Value>, before: &[Value], order: &Value, field: &FieldFacts) -> Result<(), String> {
    let order = order.as_array().ok_or("invalid patch format of setElementOrder list")?;
    let wanted = |item: &Value| order.iter().position(|o| identity(o, field) == identity(item, field));
    let server = |item: &Value| before.iter().position(|b| identity(b, field) == identity(item, field));
    let (mut ours, mut theirs): (Vec<Value>, Vec<Value>) = list.drain(..).partition(|item| wanted(item).is_some());
    ours.sort_by_key(wanted);
    theirs.sort_by_key(|item| server(item).unwrap_or(usize::MAX));
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    loop {
        let first = match (ours.peek(), theirs.peek()) {
            (Some(our), Some(their)) => matches!((server(our), server(their)), (Some(a), Some(b)) if a < b),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return Ok(()),
        };
        list.extend(if first { ours.next() } else { theirs.next() });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pod(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    }

    fn patched(spec: Value, patch: Value) -> Result<Value, String> {
        let gvk = GroupVersionKind::new("", "v1", "Pod");
        let out = strategic_merge_patch(&gvk, &pod(spec), &json!({ "spec": patch })).map_err(|error| error.message)?;
        Ok(out["spec"].clone())
    }

    fn containers() -> Value {
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2", "ports": [{"containerPort": 80}]}]})
    }

    #[test]
    fn lists_merge_by_key() {
        assert_eq!(
            patched(
                containers(),
                json!({"containers": [{"name": "b", "image": "3", "ports": [{"containerPort": 81, "name": null}]}, {"name": "c"}]})
            ),
            Ok(json!({"containers": [{"name": "a", "image": "1"},
                {"name": "b", "image": "3", "ports": [{"containerPort": 80}, {"containerPort": 81}]}, {"name": "c"}]}))
        );
        assert_eq!(
            patched(json!({"tolerations": [{"key": "a"}]}), json!({"tolerations": [{"key": "b"}]})),
            Ok(json!({"tolerations": [{"key": "b"}]})),
            "a list without a strategy is replaced"
        );
        assert!(patched(containers(), json!({"containers": [{"image": "x"}]}))
            .unwrap_err()
            .contains("does not contain declared merge key: name"));
    }

    #[test]
    fn directives() {
        let first = json!({"containers": [{"name": "a", "image": "1"}]});
        assert_eq!(
            patched(containers(), json!({"containers": [{"name": "b", "$patch": "delete"}]})),
            Ok(first.clone())
        );
        assert_eq!(
            patched(containers(), json!({"containers": [{"name": "a", "image": "1"}, {"$patch": "replace"}]})),
            Ok(first)
        );
        assert_eq!(
            patched(json!({"nodeSelector": {"a": "1"}}), json!({"nodeSelector": {"$patch": "replace", "b": "2"}})),
            Ok(json!({"nodeSelector": {"b": "2"}}))
        );
        assert!(patched(containers(), json!({"$patch": "jump"})).is_err());
        assert_eq!(
            patched(
                json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
                json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}, "$retainKeys": ["name", "hostPath"]}]})
            ),
            Ok(json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}))
        );
        assert!(patched(
            json!({"volumes": [{"name": "v"}]}),
            json!({"volumes": [{"name": "v", "hostPath": {}, "$retainKeys": ["name"]}]})
        )
        .is_err());
    }

    #[test]
    fn element_order() {
        let names = |spec: Result<Value, String>| -> Vec<String> {
            spec.unwrap()["containers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| c["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let three = json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
        let order = json!([{"name": "c"}, {"name": "d"}, {"name": "a"}]);
        assert_eq!(
            names(patched(three.clone(), json!({"$setElementOrder/containers": order, "containers": [{"name": "d"}]}))),
            ["b", "c", "d", "a"]
        );
        assert_eq!(
            names(patched(three, json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}))),
            ["b", "a", "c"]
        );
    }

    #[test]
    fn primitive_lists() {
        let gvk = GroupVersionKind::new("", "v1", "Pod");
        let object = json!({"metadata": {"finalizers": ["a/x", "b/y"]}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/x"], "finalizers": ["c/z", "b/y"],
            "$setElementOrder/finalizers": ["c/z", "b/y"]}});
        assert_eq!(
            strategic_merge_patch(&gvk, &object, &patch),
            Ok(json!({"metadata": {"finalizers": ["c/z", "b/y"]}}))
        );
    }

    #[test]
    fn nulls_do_not_become_content() {
        assert_eq!(
            patched(json!({"hostname": "x"}), json!({"hostname": null, "securityContext": {"runAsUser": null}})),
            Ok(json!({"securityContext": {}}))
        );
    }

    #[test]
    fn kinds_without_a_schema_take_no_strategic_patch() {
        let error = strategic_merge_patch(&GroupVersionKind::new("x", "v1", "Y"), &json!({}), &json!({})).unwrap_err();
        assert_eq!(error.code, 415);
    }

    proptest! {
        #[test]
        fn applying_twice_changes_nothing_more(keys in prop::collection::vec(("[a-e]", 0..3_u8, 0..9_u8), 0..6)) {
            let mut seen = Vec::new();
            let items: Vec<Value> = keys.iter().filter(|(name, ..)| !seen.contains(name) && { seen.push(name.clone()); true })
                .map(|(name, what, number)| match what {
                    0 => json!({"name": name, "$patch": "delete"}),
                    1 => json!({"name": name, "image": number.to_string()}),
                    _ => json!({"name": name, "image": null, "ports": [{"containerPort": number}]}),
                }).collect();
            let patch = json!({ "containers": items });
            let once = patched(containers(), patch.clone()).unwrap();
            prop_assert_eq!(patched(once.clone(), patch).unwrap(), once);
        }
    }
}
