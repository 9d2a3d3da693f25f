use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
    sync::Arc,
};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use keelstone_client::Object;

use crate::common::{clock, pods};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The order in which pods are given up, first to last: not assigned, pending before unknown before running,
/// not ready, cheapest deletion cost, most siblings on the node, ready for the shortest time, most restarts,
/// newest. Times are compared by the power of two they fall in, so that equally old pods are chosen by uid.
pub fn by_deletion(pods: &mut [Arc<Pod>], siblings_by_node: &BTreeMap<String, usize>, now: Timestamp) {
    pods.sort_by(|a, b| compare(a, b, siblings_by_node, now));
}

fn compare(a: &Pod, b: &Pod, siblings_by_node: &BTreeMap<String, usize>, now: Timestamp) -> Ordering {
    let siblings = |pod: &Pod| Reverse(siblings_by_node.get(pods::node_name(pod)).copied().unwrap_or(0));
    let assigned = |pod: &Pod| !pods::node_name(pod).is_empty();
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| pods::is_ready(a).cmp(&pods::is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| siblings(a).cmp(&siblings(b)))
        .then_with(|| compare_age(pods::ready_since(a), pods::ready_since(b), now))
        .then_with(|| pods::restarts_max(b).cmp(&pods::restarts_max(a)))
        .then_with(|| compare_age(created(a), created(b), now))
        .then_with(|| a.uid().cmp(b.uid()))
}

fn phase_rank(pod: &Pod) -> u8 {
    match pods::phase(pod) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    pod.annotation(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Without a time first, then the younger.
fn compare_age(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let magnitude = |since: Timestamp| clock::between(since, now).as_nanos().checked_ilog2().map_or(-1, i64::from);
    a.map(magnitude).cmp(&b.map(magnitude))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, Value};

    fn pod(name: &str, change: Value) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n1", "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:01:00Z"}]},
        });
        merge(&mut value, change);
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn merge(into: &mut Value, change: Value) {
        match change {
            Value::Object(fields) => fields.into_iter().for_each(|(key, value)| merge(&mut into[key], value)),
            other => *into = other,
        }
    }

    fn restarts(n: i32) -> Value {
        json!({"status": {"containerStatuses":
            [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": n}]}})
    }

    #[test]
    fn the_least_useful_pod_goes_first() {
        let ready = |since: &str| json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]}});
        let pods = vec![
            pod("1-unassigned", json!({"spec": {"nodeName": ""}})),
            pod("2-pending", json!({"status": {"phase": "Pending"}})),
            pod("3-unknown", json!({"status": {"phase": "Unknown"}})),
            pod("4-not-ready", json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})),
            pod("5-cheap", json!({"metadata": {"annotations": {DELETION_COST: "-7"}}})),
            pod("6-crowded-node", json!({"spec": {"nodeName": "n2"}})),
            pod("7-just-ready", ready("2026-01-01T09:59:00Z")),
            pod("8-restarted", restarts(3)),
            pod("9-new", json!({"metadata": {"creationTimestamp": "2026-01-01T09:00:00Z"}})),
            pod("a-old", json!({})),
            pod("b-dear", json!({"metadata": {"annotations": {DELETION_COST: "9"}}})),
        ];
        let siblings = BTreeMap::from([("n1".to_owned(), 2), ("n2".to_owned(), 3)]);
        let mut sorted = pods.clone();
        sorted.reverse();
        by_deletion(&mut sorted, &siblings, "2026-01-01T10:00:00Z".parse().unwrap());
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|p| p.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&sorted), names(&pods));
    }
}
