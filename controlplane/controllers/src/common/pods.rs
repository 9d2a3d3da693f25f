use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    jiff::Timestamp,
};
use keelstone_client::{Index, Object, Store};

use super::clock;

/// Index of pods by the node they are assigned to.
pub const BY_NODE: &str = "node";
/// Index of pods without a controller, by namespace.
pub const ORPHANS: &str = "orphans";
/// Index of objects by their controller's uid ([`Index::controller`]).
pub const BY_CONTROLLER: &str = "controller";

/// Adds the indexes that controllers ask pods by.
pub fn add_indexes(store: &Store<Pod>) {
    store.add_index(Index::controller());
    store.add_index(orphans());
    store.add_index(Index::new(BY_NODE, |pod: &Pod| {
        let node = node_name(pod);
        if node.is_empty() {
            Vec::new()
        } else {
            vec![node.to_owned()]
        }
    }));
}

/// Objects that have no controller, by namespace.
pub fn orphans<T: Object>() -> Index<T> {
    Index::new(ORPHANS, |object: &T| match object.controller_uid() {
        None => vec![object.namespace().to_owned()],
        Some(_) => Vec::new(),
    })
}

/// The node a pod is assigned to; empty if there is none yet.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// All containers have ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Counts as a replica: neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !pod.is_terminating()
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Since when the pod is ready; `None` if it is not, or does not say.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// How long until a ready pod counts as available: zero if it does, `None` if it is not ready.
pub fn available_in(pod: &Pod, min_ready: Duration, now: Timestamp) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready.is_zero() {
        return Some(Duration::ZERO);
    }
    let ready = ready_since(pod).map_or(Duration::ZERO, |since| clock::between(since, now));
    Some(min_ready.saturating_sub(ready))
}

/// The most restarts of one of the pod's containers.
pub fn restarts_max(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
}
