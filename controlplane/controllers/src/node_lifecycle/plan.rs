use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, NodeStatus, Pod, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions whose truth keeps new pods away, and the taint for each.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
/// What becomes unknown when a node no longer reports.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";

/// A node's Ready condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    True,
    False,
    Unknown,
    /// The node has never said.
    Missing,
}

pub fn ready(node: &Node) -> Ready {
    match condition(node, "Ready").map(|condition| condition.status.as_str()) {
        Some("True") => Ready::True,
        Some("False") => Ready::False,
        Some(_) => Ready::Unknown,
        None => Ready::Missing,
    }
}

pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// The status of a node that has not reported for the grace period; `None` if it says so already.
pub fn unknown_status(node: &Node, now: Timestamp) -> Option<NodeStatus> {
    let mut status = node.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    let mut changed = false;
    for kind in REPORTED {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            None => {
                conditions.push(NodeCondition {
                    type_: kind.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: Some(Time(now)),
                });
                changed = true;
            }
            Some(condition) if condition.status != "Unknown" => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
                changed = true;
            }
            Some(_) => {}
        }
    }
    changed.then_some(status)
}

/// The taint that makes pods leave, by the node's condition.
pub fn eviction_taint(node: &Node) -> Option<&'static str> {
    match ready(node) {
        Ready::True => None,
        Ready::False => Some(NOT_READY),
        Ready::Unknown => Some(UNREACHABLE),
        // A node that has just registered: nothing is known to be wrong yet.
        Ready::Missing => None,
    }
}

/// What may be done about taints with effect NoExecute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Not now: the rate is used up. Taints that are there follow the condition.
    Hold,
    /// A taint may be added.
    Allowed,
    /// No node is healthy, so it is rather the control plane that is cut off: none may stay.
    Suspended,
}

/// The taints that the node is to have, `None` if it has them. Others' taints are left alone.
pub fn taints(node: &Node, eviction: Eviction, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.clone().unwrap_or_default();
    let old = spec.taints.unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match ready(node) {
        Ready::True | Ready::Missing => {}
        Ready::False => wanted.push((NOT_READY, NO_SCHEDULE)),
        Ready::Unknown => wanted.push((UNREACHABLE, NO_SCHEDULE)),
    }
    let holds = |kind: &str| condition(node, kind).is_some_and(|condition| condition.status == "True");
    wanted.extend(PRESSURES.iter().filter(|(kind, _)| holds(kind)).map(|(_, key)| (*key, NO_SCHEDULE)));
    if spec.unschedulable == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let evicting = |taint: &Taint| taint.effect == NO_EXECUTE && [NOT_READY, UNREACHABLE].contains(&&*taint.key);
    let may_evict = match eviction {
        Eviction::Allowed => true,
        Eviction::Hold => old.iter().any(evicting),
        Eviction::Suspended => false,
    };
    wanted.extend(eviction_taint(node).filter(|_| may_evict).map(|key| (key, NO_EXECUTE)));

    let mut new: Vec<Taint> = old.clone();
    // A new node carries not-ready:NoSchedule from admission until its first Ready condition.
    let fresh = ready(node) == Ready::Missing;
    new.retain(|taint| {
        let id = (taint.key.as_str(), taint.effect.as_str());
        !is_ours(taint) || wanted.contains(&id) || (fresh && taint.key == NOT_READY)
    });
    for (key, effect) in wanted {
        if !new.iter().any(|taint| taint.key == key && taint.effect == effect) {
            new.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    (new != old).then_some(new)
}

fn is_ours(taint: &Taint) -> bool {
    let by_condition = PRESSURES.iter().any(|(_, key)| *key == taint.key) || taint.key == UNSCHEDULABLE;
    let by_ready = taint.key == NOT_READY || taint.key == UNREACHABLE;
    match taint.effect.as_str() {
        NO_SCHEDULE => by_condition || by_ready,
        NO_EXECUTE => by_ready,
        _ => false,
    }
}

/// A ready pod whose node is not: the same pod, not ready.
pub fn not_ready(pod: &Pod, now: Timestamp) -> Option<Pod> {
    let mut changed = pod.clone();
    let conditions = changed.status.as_mut()?.conditions.as_mut()?;
    let ready = conditions.iter_mut().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    ready.status = "False".to_owned();
    ready.last_transition_time = Some(Time(now));
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{json, Value};

    fn node(ready: Option<&str>, taints: Value) -> Node {
        let conditions = ready.map(|status| json!({"type": "Ready", "status": status}));
        serde_json::from_value(json!({"metadata": {"name": "w"}, "spec": {"taints": taints},
            "status": {"conditions": conditions.into_iter().collect::<Vec<_>>()}}))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn ids(taints: Option<Vec<Taint>>) -> Option<Vec<String>> {
        Some(taints?.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect())
    }

    #[test]
    fn taints_follow_the_condition() {
        let own = json!([{"key": "mine", "effect": "NoSchedule"}]);
        assert_eq!(taints(&node(Some("True"), own.clone()), Eviction::Allowed, now()), None);
        let lost = ids(taints(&node(Some("Unknown"), own.clone()), Eviction::Hold, now()));
        assert_eq!(lost.unwrap(), ["mine:NoSchedule", &format!("{UNREACHABLE}:NoSchedule")]);
        let evicted = ids(taints(&node(Some("Unknown"), own), Eviction::Allowed, now())).unwrap();
        assert_eq!(evicted[2], format!("{UNREACHABLE}:NoExecute"));
        let tainted =
            json!([{"key": UNREACHABLE, "effect": "NoExecute"}, {"key": UNREACHABLE, "effect": "NoSchedule"}]);
        assert_eq!(ids(taints(&node(Some("True"), tainted.clone()), Eviction::Hold, now())).unwrap().len(), 0);
        // One condition turns into the other without waiting for the rate.
        let swapped = ids(taints(&node(Some("False"), tainted.clone()), Eviction::Hold, now())).unwrap();
        assert_eq!(swapped, [format!("{NOT_READY}:NoSchedule"), format!("{NOT_READY}:NoExecute")]);
        let suspended = ids(taints(&node(Some("Unknown"), tainted), Eviction::Suspended, now())).unwrap();
        assert_eq!(suspended, [format!("{UNREACHABLE}:NoSchedule")]);
    }

    #[test]
    fn a_new_node_keeps_its_taint_until_it_reports() {
        let fresh = json!([{"key": NOT_READY, "effect": "NoSchedule"}]);
        assert_eq!(taints(&node(None, fresh.clone()), Eviction::Allowed, now()), None);
        assert_eq!(ids(taints(&node(Some("True"), fresh), Eviction::Allowed, now())).unwrap().len(), 0);
    }

    #[test]
    fn silence_makes_conditions_unknown_once() {
        let mut lost = node(Some("True"), json!([]));
        lost.status = unknown_status(&lost, now());
        let ready = condition(&lost, "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("Unknown", Some("NodeStatusUnknown")));
        let memory = condition(&lost, "MemoryPressure").unwrap();
        assert_eq!(memory.reason.as_deref(), Some("NodeStatusNeverUpdated"));
        assert_eq!(unknown_status(&lost, now()), None);
    }

    proptest! {
        #[test]
        fn applying_the_plan_settles(ready in 0..4usize, had in proptest::collection::vec(0..8usize, 0..5),
            pressure in any::<bool>(), cordoned in any::<bool>(), eviction in 0..3usize) {
            let keys = [NOT_READY, UNREACHABLE, UNSCHEDULABLE, "other"];
            let mut had = had;
            had.sort();
            had.dedup();
            let old: Vec<_> = had.iter().map(|i| json!({"key": keys[i % 4], "effect":
                if *i < 4 { NO_SCHEDULE } else { NO_EXECUTE }})).collect();
            let mut node = node([None, Some("True"), Some("False"), Some("Unknown")][ready], json!(old));
            node.spec.get_or_insert_default().unschedulable = Some(cordoned);
            if pressure {
                let conditions = node.status.as_mut().unwrap().conditions.get_or_insert_default();
                conditions.push(serde_json::from_value(json!({"type": "DiskPressure", "status": "True"})).unwrap());
            }
            let eviction = [Eviction::Hold, Eviction::Allowed, Eviction::Suspended][eviction];
            if let Some(new) = taints(&node, eviction, now()) {
                node.spec.get_or_insert_default().taints = Some(new);
            }
            prop_assert_eq!(taints(&node, eviction, now()), None);
        }
    }
}
