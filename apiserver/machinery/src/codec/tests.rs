use proptest::prelude::*;
use serde_json::{json, Map};

use crate::facts::{Facts, Shape, TypeId};
use crate::quantity::Quantity;
use crate::{meta, schema};

use super::*;

fn pod() -> GroupVersionKind {
    GroupVersionKind::new("", "v1", "Pod")
}

#[test]
fn bodies_without_a_kind_take_the_default() {
    let decoded = decode("application/json; charset=utf-8", b"{\"metadata\":{}}", Some(&pod())).unwrap();
    assert_eq!(decoded.object, json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}}));
}

#[test]
fn duplicates_are_named_once_each_time() {
    let body = br#"{"spec":{"a":1,"a":2,"l":[{"x":1},{"x":1,"x":{"y":1,"y":2}}]},"spec":{"a":3}}"#;
    let decoded = decode(JSON, body, None).unwrap();
    assert_eq!(decoded.duplicates, ["spec.a", "spec.l[1].x", "spec.l[1].x.y", "spec"]);
    assert_eq!(decoded.object, json!({"spec": {"a": 3}}));
}

#[test]
fn yaml_is_read_as_json_would_be() {
    let decoded = decode(YAML, b"a: 1\nb: [x, true, 1.5, null]\n1: y\na: 2\n", None).unwrap();
    assert_eq!(decoded.object, json!({"a": 2, "b": ["x", true, 1.5, null], "1": "y"}));
    assert_eq!(decoded.duplicates, ["a"]);
    assert_eq!(decode(YAML, b"a: 1\n---\nb: 1\n", None).unwrap_err().code, 400);
}

#[test]
fn bad_bodies_get_a_status() {
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let object = |depth: usize| format!("{{\"a\":{}}}", deep(depth)).into_bytes();
    assert!(decode(JSON, &object(crate::constants::BODY_DEPTH_MAX - 1), None).is_ok());
    let mut all = vec![
        (JSON, b"".to_vec(), 400),
        (JSON, b"{".to_vec(), 400),
        (JSON, b"[]".to_vec(), 400),
        (JSON, b"{} x".to_vec(), 400),
        (JSON, b"{\"a\":1e999}".to_vec(), 400),
        (JSON, b"\xff".to_vec(), 400),
        (JSON, object(crate::constants::BODY_DEPTH_MAX), 400),
        (YAML, b"a: [".to_vec(), 400),
        (YAML, b"text".to_vec(), 400),
        (PROTOBUF, b"{}".to_vec(), 400),
        (PROTOBUF, b"k8s\0\xff".to_vec(), 400),
        (PROTOBUF, b"k8s\0".to_vec(), 400),
        ("text/plain", b"{}".to_vec(), 415),
    ];
    all.push((JSON, vec![b' '; BODY_BYTES_MAX + 1], 413));
    for (form, body, code) in all {
        let text = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
        assert_eq!(decode(form, &body, None).map_err(|e| e.code), Err(code), "{form} {text}");
    }
    let mut at_limit = b"{}".to_vec();
    at_limit.resize(BODY_BYTES_MAX, b' ');
    assert!(decode(JSON, &at_limit, None).is_ok());
}

#[test]
fn kinds_must_match() {
    let given = json!({"apiVersion": "v1", "kind": "Pod"});
    assert!(check_gvk(&given, &pod()).is_ok());
    assert_eq!(
        check_gvk(&given, &GroupVersionKind::new("", "v2", "Pod")).unwrap_err().message,
        "the API version in the data (v1) does not match the expected API version (v2)"
    );
    assert!(check_gvk(&given, &GroupVersionKind::new("", "v1", "Node")).is_err());
    assert!(check_gvk(&json!({}), &pod()).is_err());
}

#[test]
fn a_known_message() {
    // What a Go client sends for a Namespace: every string that is no pointer, also the empty ones.
    let mut message = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12".to_vec();
    let raw = b"\x0a\x14\x0a\x04demo\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x12\x00\x1a\x02\x0a\x00";
    message.push(raw.len() as u8);
    message.extend_from_slice(raw);
    message.extend_from_slice(b"\x1a\x00\"\x00");
    let decoded = decode(PROTOBUF, &message, None).unwrap();
    assert_eq!(decoded.object, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}));
}

/// A value of a shape without structs, from a seed.
fn made(shape: &Shape, seed: &mut u64) -> Value {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let roll = *seed >> 40;
    match shape {
        Shape::String => Value::from(format!("s{roll}")),
        Shape::Bool => Value::from(true),
        Shape::Int32 => Value::from((roll as i32) - 5_000_000),
        Shape::Int64 => Value::from((*seed >> 1) as i64 - (i64::MAX / 2)),
        Shape::Float64 => Value::from(roll as f64 + 0.5),
        Shape::Bytes => Value::from(["YWJj", "YQ==", "AA=="][roll as usize % 3]),
        Shape::Time => Value::from(meta::rfc3339_from_unix(roll as i64 * 1000)),
        Shape::MicroTime => Value::from(meta::micro_time_from_unix(roll as i64 * 1000, 1_000)),
        Shape::Duration => Value::from(duration::text(roll as i64 * 1_000_000)),
        Shape::Quantity => Value::from(Quantity::from_milli(roll as i64).to_string()),
        Shape::IntOrString if roll.is_multiple_of(2) => Value::from(roll as i32),
        Shape::IntOrString => Value::from(format!("{}%", roll % 100)),
        Shape::Raw | Shape::Any => json!({"apiVersion": "x/v1", "kind": "X", "a": [1, {"b": null}]}),
        Shape::Fields => json!({"f:a": {}}),
        Shape::List(inner) | Shape::NamedList(inner) => (0..=roll % 2).map(|_| made(inner, seed)).collect(),
        Shape::Map(inner) => {
            let entries = (0..=roll % 2).map(|i| (format!("k{i}"), made(inner, seed)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Shape::Struct(_) => Value::Null,
    }
}

/// Types that hold themselves would be filled without end; they are filled to a depth.
fn bounded(facts: &Facts, id: TypeId, seed: &mut u64, depth: usize) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, field) in &facts.get(id).fields {
        let nested = facts.struct_of(&field.shape).is_some();
        if nested && depth >= 8 {
            continue;
        }
        let value = match (&field.shape, facts.struct_of(&field.shape)) {
            (_, None) => made(&field.shape, seed),
            (shape, Some(inner)) => {
                let id = facts.by_name(&inner.name).expect("a type of the table");
                let map = Value::Object(bounded(facts, id, seed, depth + 1));
                match shape {
                    Shape::List(_) => Value::Array(vec![map]),
                    Shape::Map(_) => json!({"k": map}),
                    _ => map,
                }
            }
        };
        out.insert(name.clone(), value);
    }
    out
}

#[test]
fn every_kind_survives_protobuf_with_all_fields_set() {
    let facts = Facts::global();
    let mut count = 0;
    for (id, ty) in facts.types() {
        let Some(gvk) = ty.gvk.as_ref().filter(|_| ty.has_protobuf() && ty.short_name() != "Table") else { continue };
        if ty.short_name().ends_with("List") && ty.name != "core.v1.List" {
            continue;
        }
        let mut seed = 7;
        let mut object = Value::Object(bounded(facts, id, &mut seed, 0));
        meta::set_gvk(&mut object, gvk);
        let before = object.clone();
        assert_eq!(schema::prune(gvk, &mut object), Ok(Vec::new()), "{}", ty.name);
        assert_eq!(object, before, "{}: made values are canonical", ty.name);
        let bytes = encode_protobuf(&object).unwrap();
        let decoded = decode(PROTOBUF, &bytes, None).unwrap().object;
        assert_eq!(decoded, object, "{}", ty.name);
        count += 1;
    }
    assert!(count > 60, "{count}");
}

proptest! {
    #[test]
    fn no_protobuf_body_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..400_usize) {
        let _ = decode(PROTOBUF, &[&b"k8s\0"[..], &bytes].concat(), Some(&pod()));
        let facts = Facts::global();
        let id = facts.by_gvk(&pod()).unwrap();
        let mut seed = cut as u64;
        let mut object = Value::Object(made_small(facts, id, &mut seed));
        meta::set_gvk(&mut object, &pod());
        let mut good = encode_protobuf(&object).unwrap();
        good.truncate(cut.min(good.len()));
        let _ = decode(PROTOBUF, &good, None);
        for (at, byte) in bytes.iter().enumerate() {
            let index = (at * 31 + cut) % good.len().max(1);
            if let Some(slot) = good.get_mut(index) {
                *slot = *byte;
            }
        }
        let _ = decode(PROTOBUF, &good, None);
    }

    #[test]
    fn no_json_or_yaml_body_panics(text in "[-a{}\\[\\]:,\" \n01.e&*]{0,60}") {
        let _ = decode(JSON, text.as_bytes(), None);
        let _ = decode(YAML, text.as_bytes(), None);
    }
}

fn made_small(facts: &Facts, id: TypeId, seed: &mut u64) -> Map<String, Value> {
    bounded(facts, id, seed, 6)
}
