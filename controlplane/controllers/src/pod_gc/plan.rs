use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use keelstone_client::Object;

use crate::common::pods;

/// Pods to be deleted at once, without a grace period.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Finished, the oldest first.
    pub finished: Vec<Arc<Pod>>,
    /// Their node does not exist.
    pub orphaned: Vec<Arc<Pod>>,
    /// Being deleted, and no agent knows them.
    pub unscheduled: Vec<Arc<Pod>>,
}

/// `gone` are nodes that certainly do not exist; `finished_max` finished pods are kept.
pub fn plan(all: &[Arc<Pod>], gone: &BTreeSet<String>, finished_max: usize) -> Plan {
    let mut finished: Vec<_> = all.iter().filter(|pod| pods::is_finished(pod) && !pod.is_terminating()).collect();
    finished.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.key()));
    finished.truncate(finished.len().saturating_sub(finished_max));
    let on_gone = |pod: &&Arc<Pod>| gone.contains(pods::node_name(pod));
    let unscheduled = |pod: &&Arc<Pod>| pod.is_terminating() && pods::node_name(pod).is_empty();
    Plan {
        finished: finished.into_iter().cloned().collect(),
        orphaned: all.iter().filter(on_gone).cloned().collect(),
        unscheduled: all.iter().filter(unscheduled).cloned().collect(),
    }
}

/// The names of nodes that pods are assigned to and that are not among `present`.
pub fn missing_nodes(all: &[Arc<Pod>], present: &BTreeSet<String>) -> BTreeSet<String> {
    let named = all.iter().map(|pod| pods::node_name(pod)).filter(|name| !name.is_empty());
    named.filter(|name| !present.contains(*name)).map(str::to_owned).collect()
}

/// The pod as it is to be seen before it goes: failed, and why. `None` if it has ended already.
pub fn failed(pod: &Pod, now: Timestamp) -> Option<Pod> {
    if pods::is_finished(pod) {
        return None;
    }
    let mut failed = pod.clone();
    let status = failed.status.get_or_insert_default();
    status.phase = Some("Failed".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("DeletionByPodGC".to_owned()),
        message: Some("PodGC: node no longer exists".to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    });
    Some(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str, phase: &str, terminating: bool) -> Arc<Pod> {
        let at = terminating.then_some("2026-01-01T00:00:00Z");
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "n", "uid": name, "deletionTimestamp": at},
                "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}}))
            .unwrap(),
        )
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| pod.name()).collect()
    }

    #[test]
    fn what_nobody_else_removes() {
        let all = [
            pod("a", "here", "Running", false),
            pod("b", "gone", "Running", false),
            pod("c", "", "Pending", true),
            pod("d", "", "Pending", false),
            pod("e", "here", "Succeeded", false),
            pod("f", "here", "Failed", false),
        ];
        let gone = missing_nodes(&all, &BTreeSet::from(["here".to_owned()]));
        assert_eq!(gone, BTreeSet::from(["gone".to_owned()]));
        let plan_1 = plan(&all, &gone, 1);
        assert_eq!(names(&plan_1.orphaned), ["b"]);
        assert_eq!(names(&plan_1.unscheduled), ["c"]);
        assert_eq!(names(&plan_1.finished), ["e"]);
        assert!(plan(&all, &gone, 2).finished.is_empty());
        let failed = failed(&all[1], "2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(pods::phase(&failed), "Failed");
    }
}
