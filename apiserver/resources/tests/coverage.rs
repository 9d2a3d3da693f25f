//! What must hold for every kind in the list.

use std::collections::BTreeSet;

use keelstone_machinery::field::Causes;
use keelstone_registry::{Resource, WriteContext};
use keelstone_resources::all;
use serde_json::{json, Value};

/// A minimal valid object of the kind.
fn minimal(kind: &str) -> Value {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let workload = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let mut object = match kind {
        "Pod" => json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}),
        "Deployment" | "ReplicaSet" => workload,
        "Service" => json!({"spec": {"ports": [{"port": 80}]}}),
        "EndpointSlice" => json!({"addressType": "IPv4"}),
        "Event" => json!({"involvedObject": {"kind": "Pod", "name": "p", "namespace": "n"}}),
        "RoleBinding" | "ClusterRoleBinding" => json!({"roleRef": {"kind": "ClusterRole", "name": "r"}}),
        "PriorityClass" => json!({"value": 1}),
        _ => json!({}),
    };
    object["metadata"] = json!({"name": "a", "namespace": "n"});
    object
}

fn errors(resource: &dyn Resource, object: &Value) -> Vec<String> {
    let mut causes = Causes::new();
    resource.validate(object, &mut causes);
    causes.list().iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
}

/// The object as it would be stored after creation.
fn created(resource: &dyn Resource) -> Value {
    let mut object = minimal(resource.info().kind);
    resource.default(&mut object);
    resource.prepare_for_create(&WriteContext::default(), &mut object);
    object
}

#[test]
fn names_are_unique() {
    let mut seen = BTreeSet::new();
    for resource in all() {
        let info = resource.info();
        assert!(seen.insert(info.gvr()), "{} twice", info.plural);
        assert!(info.verbs.contains(&"list") && info.verbs.contains(&"watch"), "{}", info.plural);
        for short in info.short_names {
            assert!(
                seen.insert(keelstone_machinery::gvk::GroupVersionResource::new("", "short", short)),
                "{short} twice"
            );
        }
    }
    assert_eq!(all().len(), 18);
}

#[test]
fn columns_and_rows_agree() {
    for resource in all() {
        let kind = resource.info().kind;
        let columns = resource.columns();
        assert_eq!(columns.iter().filter(|c| c.format == "name").count(), 1, "{kind}");
        // An event's name says nothing, so its columns start with when it was seen, as in Kubernetes.
        assert_eq!(columns[0].name, if kind == "Event" { "Last Seen" } else { "Name" }, "{kind}");
        assert!(columns.iter().all(|c| !c.description.is_empty()), "{kind}");
        for object in [json!({}), Value::Null, minimal(kind), created(resource)] {
            assert_eq!(resource.row(&object, 0).len(), columns.len(), "{kind}");
        }
    }
}

#[test]
fn a_minimal_object_is_valid() {
    for resource in all() {
        let object = created(resource);
        assert_eq!(errors(resource, &object), Vec::<String>::new(), "{}: {object}", resource.info().kind);
        let mut causes = Causes::new();
        resource.validate_update(&object, &object, &mut causes);
        assert!(causes.is_empty(), "{}", resource.info().kind);
        assert!(!resource.generation_changes(&object, &object), "{}", resource.info().kind);
        assert!(resource.validate_name("a").is_empty());
    }
}

#[test]
fn defaulting_twice_is_defaulting_once() {
    for resource in all() {
        let mut once = minimal(resource.info().kind);
        resource.default(&mut once);
        let mut twice = once.clone();
        resource.default(&mut twice);
        assert_eq!(once, twice, "{}", resource.info().kind);
    }
}

/// What defaults and strategies write is known to the schema, of the right type, and in canonical form.
#[test]
fn the_schema_agrees_with_what_is_stored() {
    for resource in all() {
        let (info, mut object) = (resource.info(), created(resource));
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let mut pruned = object.clone();
        let unknown = keelstone_machinery::schema::prune(&info.gvk(), &mut pruned);
        assert_eq!(unknown, Ok(Vec::new()), "{}", info.kind);
        assert_eq!(pruned, object, "{}", info.kind);
        assert!(keelstone_machinery::facts::Facts::global().by_gvk(&info.gvk()).is_some(), "{}", info.kind);
    }
}

#[test]
fn an_unchanged_update_changes_nothing() {
    for resource in all() {
        let old = created(resource);
        for subresource in std::iter::once("").chain(resource.info().subresources.iter().map(|s| s.name)) {
            let mut new = old.clone();
            let context = WriteContext { subresource: subresource.into(), ..WriteContext::default() };
            resource.prepare_for_update(&context, &mut new, &old);
            assert_eq!(new, old, "{}/{subresource}", resource.info().plural);
        }
    }
}

#[test]
fn listed_fields_can_be_selected_and_others_cannot() {
    for resource in all() {
        let object = created(resource);
        for field in resource.fields() {
            assert!(resource.field(&object, field).is_some(), "{} {field}", resource.info().kind);
        }
        assert_eq!(resource.field(&object, "spec.nothing"), None, "{}", resource.info().kind);
    }
}

/// Values of the wrong type anywhere are refused before a strategy sees them, but must not panic here either.
#[test]
fn wrong_types_do_not_panic() {
    let wrong = [json!(null), json!(1), json!("x"), json!([1]), json!({"a": 1}), json!(true)];
    for resource in all() {
        let object = created(resource);
        for path in paths(&object) {
            for value in &wrong {
                let mut bad = object.clone();
                *bad.pointer_mut(&path).expect("a path of the object") = value.clone();
                let old = bad.clone();
                resource.default(&mut bad);
                resource.prepare_for_create(&WriteContext::default(), &mut bad);
                resource.prepare_for_update(&WriteContext::default(), &mut bad, &old);
                let mut causes = Causes::new();
                resource.validate(&bad, &mut causes);
                resource.validate_update(&bad, &object, &mut causes);
                resource.row(&bad, 0);
            }
        }
    }
}

/// Pointers to all values inside `object`.
fn paths(object: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match object {
        Value::Object(map) => map.iter().map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    let mut all = vec![String::new()];
    for (key, child) in children {
        all.extend(paths(child).into_iter().map(|rest| format!("/{key}{rest}")));
    }
    all
}
