//! Decisions: golden cases, and properties of the snapshot that they are made on.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use keelstone_client::Object;
use keelstone_scheduler::{default_plugins, schedule, Decision, PodInfo, Snapshot};
use proptest::prelude::*;
use serde_json::{json, Value};

fn merge(target: &mut Value, from: Value) {
    match from {
        Value::Object(fields) => fields.into_iter().for_each(|(key, value)| merge(&mut target[key.as_str()], value)),
        other => *target = other,
    }
}

/// Reads `cpu=1 label:a=b {...}` into an object.
fn details(mut object: Value, text: &str, requests: &str) -> Value {
    let (words, extra) = text.find('{').map_or((text, "{}"), |at| text.split_at(at));
    for word in words.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("not key=value: {word}"));
        match key.strip_prefix("label:") {
            Some(label) => object["metadata"]["labels"][label] = value.into(),
            None => object.pointer_mut(requests).unwrap()[key] = value.into(),
        }
    }
    merge(&mut object, serde_json::from_str(extra).unwrap_or_else(|e| panic!("{e}: {extra}")));
    object
}

fn node(name: &str, text: &str) -> Arc<Node> {
    let object = json!({"metadata": {"name": name}, "spec": {}, "status": {"allocatable": {"memory": "8Gi"}}});
    Arc::new(serde_json::from_value(details(object, text, "/status/allocatable")).unwrap())
}

fn pod(name: &str, text: &str) -> Arc<Pod> {
    let (on, text) = match text.strip_prefix("on ") {
        Some(rest) => rest.split_once(' ').unwrap_or((rest, "")),
        None => ("", text),
    };
    let mut object = json!({"metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {}}}]}});
    if !on.is_empty() {
        object["spec"]["nodeName"] = on.into();
    }
    Arc::new(serde_json::from_value(details(object, text, "/spec/containers/0/resources/requests")).unwrap())
}

#[test]
fn golden_cases() {
    let (mut snapshot, mut answer, mut case) = (Snapshot::default(), String::new(), String::new());
    for line in include_str!("cases.txt").lines().map(str::trim) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "" | "#" => {}
            "==" => (snapshot, case) = (Snapshot::default(), rest.to_owned()),
            "node" => snapshot.set_node(node(name, text)),
            "pod" => snapshot.set_pod(pod(name, text)),
            "schedule" => {
                let decision = schedule(&default_plugins(), &snapshot, &PodInfo::new(pod(name, text)));
                answer = match decision {
                    Decision::Node(node) => node,
                    Decision::Nowhere(why) => why,
                };
            }
            "=>" => assert_eq!(answer, rest, "in case: {case}"),
            other => panic!("unknown word {other:?} in case: {case}"),
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    SetNode(u8, u8),
    RemoveNode(u8),
    SetPod { name: u8, on: Option<u8>, cpu: u8, ended: bool },
    RemovePod(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..4_u8, 1..8_u8).prop_map(|(name, cpu)| Change::SetNode(name, cpu)),
        (0..4_u8).prop_map(Change::RemoveNode),
        (0..8_u8, proptest::option::of(0..5_u8), 0..4_u8, any::<bool>())
            .prop_map(|(name, on, cpu, ended)| Change::SetPod { name, on, cpu, ended }),
        (0..8_u8).prop_map(Change::RemovePod),
    ]
}

proptest! {
    #[test]
    fn a_snapshot_kept_up_to_date_equals_one_made_anew(changes in proptest::collection::vec(change(), 0..60)) {
        let mut kept = Snapshot::default();
        let (mut nodes, mut pods) = (BTreeMap::new(), BTreeMap::new());
        for change in changes {
            match change {
                Change::SetNode(name, cpu) => {
                    let node = node(&format!("n{name}"), &format!("cpu={cpu}"));
                    kept.set_node(node.clone());
                    nodes.insert(name, node);
                }
                Change::RemoveNode(name) => {
                    kept.remove_node(&format!("n{name}"));
                    nodes.remove(&name);
                }
                Change::SetPod { name, on, cpu, ended } => {
                    let on = on.map(|on| format!("on n{on} ")).unwrap_or_default();
                    let phase = if ended { r#" {"status":{"phase":"Failed"}}"# } else { "" };
                    let pod = pod(&format!("p{name}"), &format!("{on}cpu={cpu}{phase}"));
                    kept.set_pod(pod.clone());
                    pods.insert(name, pod);
                }
                Change::RemovePod(name) => {
                    kept.remove_pod(&format!("default/p{name}"));
                    pods.remove(&name);
                }
            }
        }
        let mut anew = Snapshot::default();
        pods.values().for_each(|pod| anew.set_pod(pod.clone()));
        nodes.values().for_each(|node| anew.set_node(node.clone()));
        prop_assert_eq!(kept, anew);
    }

    #[test]
    fn no_node_is_ever_overcommitted(
        sizes in proptest::collection::vec(1..6_i64, 1..5),
        asks_milli in proptest::collection::vec(0..2_500_i64, 0..40),
    ) {
        let mut snapshot = Snapshot::default();
        for (i, cpu) in sizes.iter().enumerate() {
            snapshot.set_node(node(&format!("n{i}"), &format!("cpu={cpu}")));
        }
        let plugins = default_plugins();
        for (i, ask) in asks_milli.iter().enumerate() {
            let pod = PodInfo::new(pod(&format!("p{i}"), &format!("cpu={ask}m")));
            match schedule(&plugins, &snapshot, &pod) {
                Decision::Node(node) => snapshot.place(Arc::new(pod.assigned_to(&node))),
                Decision::Nowhere(_) => {
                    let room = |n: &keelstone_scheduler::NodeInfo| n.allocatable.cpu_milli - n.requested.cpu_milli;
                    prop_assert!(snapshot.nodes().all(|node| room(node) < *ask));
                }
            }
            prop_assert!(snapshot.nodes().all(|n| n.requested.cpu_milli <= n.allocatable.cpu_milli));
        }
    }
}

#[test]
fn pods_are_named_by_namespace() {
    assert_eq!(PodInfo::new(pod("a", "")).key, "default/a");
    assert_eq!(pod("a", "on n cpu=1").key(), "default/a");
}
