use proptest::prelude::*;
use serde_json::json;

use super::*;

const T1: &str = "2026-01-01T00:00:01Z";
const T2: &str = "2026-01-01T00:00:02Z";

fn deployment() -> GroupVersionKind {
    GroupVersionKind::new("apps", "v1", "Deployment")
}

fn config(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "n"}, "spec": spec})
}

fn applied(live: Option<&Value>, spec: Value, manager: &str) -> ApiResult<Value> {
    apply(&deployment(), live, &config(spec), manager, false, "", T1)
}

fn owners(object: &Value) -> Vec<(String, Vec<String>)> {
    managed::read(object).unwrap().iter().map(|e| (e.manager.clone(), e.fields.paths())).collect()
}

#[test]
fn a_first_apply_creates_and_owns() {
    let object = applied(
        None,
        json!({"replicas": 2, "template": {"spec": {"containers": [
        {"name": "c", "image": "i", "ports": [{"containerPort": 80}]}], "nodeSelector": {"a": "b"}}}}),
        "me",
    )
    .unwrap();
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{"manager": "me", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "time": T1,
            "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}},
                "f:nodeSelector": {}}}}}}])
    );
    let again = apply(&deployment(), Some(&object), &config(object["spec"].clone()), "me", false, "", T2).unwrap();
    assert_eq!(again, object, "the same configuration changes nothing, not even the time");
}

#[test]
fn conflicts_name_managers_and_fields() {
    let mut live = config(json!({"replicas": 1, "paused": true}));
    track_update(&deployment(), None, &mut live, "kubectl-create", "", T1);
    let error = applied(Some(&live), json!({"replicas": 3}), "me").unwrap_err();
    assert_eq!(error.code, 409);
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-create\" using apps/v1: .spec.replicas"
    );
    assert_eq!(
        error.causes(),
        [Cause {
            reason: "FieldManagerConflict".into(),
            message: "conflict with \"kubectl-create\" using apps/v1".into(),
            field: ".spec.replicas".into()
        }]
    );
    let error = applied(Some(&live), json!({"replicas": 3, "paused": false}), "me").unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 2 conflicts: conflicts with \"kubectl-create\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );
    let forced = apply(&deployment(), Some(&live), &config(json!({"replicas": 3})), "me", true, "", T2).unwrap();
    assert_eq!(forced["spec"], json!({"replicas": 3, "paused": true}));
    assert_eq!(
        owners(&forced),
        [
            ("me".to_owned(), vec![".spec.replicas".to_owned()]),
            ("kubectl-create".to_owned(), vec![".spec.paused".to_owned()])
        ]
    );
}

#[test]
fn fields_no_longer_applied_go() {
    let first = applied(None, json!({"replicas": 2, "paused": true, "template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "image": "x"}]}}}), "me").unwrap();
    let second =
        applied(Some(&first), json!({"paused": true, "template": {"spec": {"containers": [{"name": "b"}]}}}), "me")
            .unwrap();
    assert_eq!(second["spec"], json!({"paused": true, "template": {"spec": {"containers": [{"name": "b"}]}}}));
}

#[test]
fn fields_of_several_owners_stay_until_the_last_leaves() {
    let first = applied(None, json!({"replicas": 2}), "one").unwrap();
    let both = applied(Some(&first), json!({"replicas": 2, "paused": true}), "two").unwrap();
    let left = applied(Some(&both), json!({}), "one").unwrap();
    assert_eq!(left["spec"], json!({"replicas": 2, "paused": true}));
    let error = applied(Some(&both), json!({"replicas": 5}), "one").unwrap_err();
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"two\": .spec.replicas");
    let gone = applied(Some(&left), json!({"paused": true}), "two").unwrap();
    assert_eq!(gone["spec"], json!({"paused": true}));
}

#[test]
fn metadata_survives_leaving_it() {
    let mut live = applied(None, json!({}), "me").unwrap();
    live["metadata"]["uid"] = json!("u");
    let mut labelled = config(json!({}));
    labelled["metadata"]["labels"] = json!({"a": "1"});
    let with = apply(&deployment(), Some(&live), &labelled, "me", false, "", T1).unwrap();
    let without = applied(Some(&with), json!({}), "me").unwrap();
    assert_eq!((without["metadata"]["uid"].as_str(), without["metadata"].get("labels")), (Some("u"), None));
}

#[test]
fn objects_without_owners_get_one_at_the_first_apply() {
    let live = config(json!({"replicas": 1}));
    let error = applied(Some(&live), json!({"replicas": 2}), "me").unwrap_err();
    assert!(
        error.message.contains("conflict with \"before-first-apply\" using apps/v1: .spec.replicas"),
        "{}",
        error.message
    );
    let same = applied(Some(&live), json!({"replicas": 1}), "me").unwrap();
    assert_eq!(owners(&same).len(), 2);
}

#[test]
fn wrong_configurations_are_bad_requests() {
    let twice = json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}});
    let error = applied(None, twice, "me").unwrap_err();
    assert_eq!(error.code, 400);
    assert_eq!(
        error.message,
        "failed to create typed patch object (n/a; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"a\"]"
    );
    let error = applied(None, json!({"template": {"spec": {"containers": [{"image": "a"}]}}}), "me").unwrap_err();
    assert!(error.message.contains("omits key field \"name\""), "{}", error.message);
    let mut owned = config(json!({}));
    owned["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(
        apply(&deployment(), None, &owned, "me", false, "", T1).unwrap_err().message,
        "metadata.managedFields must be nil"
    );
}

#[test]
fn updates_take_what_they_change() {
    let live = applied(None, json!({"replicas": 2, "paused": true}), "me").unwrap();
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(3);
    scaled["status"] = json!({"replicas": 1});
    track_update(&deployment(), Some(&live), &mut scaled, "autoscaler", "scale", T2);
    assert_eq!(
        owners(&scaled),
        [
            ("me".to_owned(), vec![".spec.paused".to_owned()]),
            ("autoscaler".to_owned(), vec![".spec.replicas".to_owned(), ".status.replicas".to_owned()])
        ]
    );
    let before = scaled.clone();
    track_update(&deployment(), Some(&before), &mut scaled, "other", "", T2);
    assert_eq!(scaled, before, "a write that changes nothing leaves no trace");
    scaled["metadata"]["managedFields"] = json!([{}]);
    track_update(&deployment(), Some(&before), &mut scaled, "other", "", T2);
    assert_eq!(scaled["metadata"].get("managedFields"), None, "an empty entry clears them");
}

#[test]
fn a_created_object_reads_as_the_reference_writes_it() {
    let mut object = json!({"metadata": {"name": "a", "labels": {"app": "x"}}, "spec": {"strategy": {"rollingUpdate": {"maxSurge": 1}},
        "selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"securityContext": {},
        "containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {}}]}}}, "status": {"replicas": 1}});
    track_update(&deployment(), None, &mut object, "kubectl-create", "", T1);
    assert_eq!(
        object["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {
            "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}}, "f:selector": {},
            "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:securityContext": {}, "f:containers": {
                "k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {}, "f:ports": {".": {},
                    "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}}}}}}}})
    );
}

#[test]
fn the_number_of_update_managers_is_bounded() {
    let mut object = config(json!({}));
    for index in 0..30 {
        let before = object.clone();
        meta::set_label(&mut object, &format!("l{index}"), Some("x"));
        track_update(
            &deployment(),
            Some(&before),
            &mut object,
            &format!("m{index}"),
            "",
            &format!("2026-01-01T00:00:{index:02}Z"),
        );
    }
    let owners = owners(&object);
    assert_eq!(owners.len(), crate::constants::UPDATE_MANAGERS_MAX);
    assert!(owners
        .iter()
        .any(|(name, fields)| name == "ancient-changes" && fields.contains(&".metadata.labels.l0".to_owned())));
}

#[test]
fn kinds_without_a_schema_are_owned_entry_by_entry() {
    let gvk = GroupVersionKind::new("x.io", "v1", "Thing");
    let one = json!({"spec": {"a": 1, "list": [1]}});
    let live = apply(&gvk, None, &one, "one", false, "", T1).unwrap();
    let both = apply(&gvk, Some(&live), &json!({"spec": {"b": {"c": 1}}}), "two", false, "", T1).unwrap();
    assert_eq!(both["spec"], json!({"a": 1, "b": {"c": 1}, "list": [1]}));
    assert!(apply(&gvk, Some(&both), &json!({"spec": {"list": [2]}}), "two", false, "", T1).is_err());
}

/// The order of lists follows the last configuration that was applied.
fn unordered(value: &Value) -> Value {
    match value {
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(unordered).collect();
            list.sort_by_key(Value::to_string);
            Value::Array(list)
        }
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), unordered(value))).collect()),
        other => other.clone(),
    }
}

fn specs() -> impl Strategy<Value = Value> {
    let port = (1..4_u16, prop::option::of("TCP|UDP"), prop::option::of("[ab]"));
    let port = port.prop_map(|(port, protocol, name)| {
        let mut out = json!({ "containerPort": port });
        if let Some(p) = protocol {
            out["protocol"] = json!(p);
        }
        if let Some(n) = name {
            out["name"] = json!(n);
        }
        out
    });
    let container = ("[abc]", prop::option::of("[xy]"), prop::collection::vec(port, 0..3));
    let containers = prop::collection::vec(container, 0..3).prop_map(|all| {
        let mut names = Vec::new();
        let fresh = all.into_iter().filter(|(name, ..)| {
            !names.contains(name) && {
                names.push(name.clone());
                true
            }
        });
        fresh
            .map(|(name, image, ports)| {
                let mut keys = Vec::new();
                let ports: Vec<Value> = ports
                    .into_iter()
                    .filter(|p| {
                        let key = (p["containerPort"].clone(), p.get("protocol").cloned().unwrap_or(json!("TCP")));
                        !keys.contains(&key) && {
                            keys.push(key);
                            true
                        }
                    })
                    .collect();
                let mut out = json!({"name": name, "ports": ports});
                if let Some(i) = image {
                    out["image"] = json!(i);
                }
                out
            })
            .collect::<Vec<Value>>()
    });
    (prop::option::of(0..3_i32), containers, prop::collection::btree_map("[ab]", "[xy]", 0..3)).prop_map(
        |(replicas, containers, labels)| {
            let mut spec = json!({"template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}});
            if let Some(r) = replicas {
                spec["replicas"] = json!(r);
            }
            spec
        },
    )
}

proptest! {
    #[test]
    fn applying_again_changes_nothing(first in specs(), second in specs()) {
        let one = apply(&deployment(), None, &config(first), "me", true, "", T1).unwrap();
        let two = apply(&deployment(), Some(&one), &config(second.clone()), "me", true, "", T1).unwrap();
        let again = apply(&deployment(), Some(&two), &config(second), "me", false, "", T2).unwrap();
        prop_assert_eq!(again, two);
    }

    #[test]
    fn disjoint_managers_may_come_in_any_order(replicas in 0..9_i32, containers in specs()) {
        let a = json!({ "replicas": replicas, "paused": true });
        let mut b = containers;
        b.as_object_mut().unwrap().remove("replicas");
        let ab = applied(Some(&applied(None, a.clone(), "a").unwrap()), b.clone(), "b").unwrap();
        let ba = applied(Some(&applied(None, b, "b").unwrap()), a, "a").unwrap();
        prop_assert_eq!(ab, ba);
    }

    #[test]
    fn a_conflict_free_apply_leaves_others_fields_alone(first in specs(), second in specs()) {
        let live = applied(None, first.clone(), "one").unwrap();
        if let Ok(both) = applied(Some(&live), second, "two") {
            let back = apply(&deployment(), Some(&both), &config(first), "one", false, "", T1).unwrap();
            prop_assert_eq!(unordered(&back["spec"]), unordered(&both["spec"]));
        }
    }

    #[test]
    fn no_managed_fields_panic(fields in "[fkvi.:{}\"a0,]{0,12}") {
        let mut live = config(json!({"replicas": 1}));
        live["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply", "fieldsV1": {fields: {}}}]);
        let _ = applied(Some(&live), json!({"replicas": 2}), "me");
        track_update(&deployment(), None, &mut live, "x", "", T1);
    }
}
