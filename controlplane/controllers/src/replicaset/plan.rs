use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use keelstone_client::Object;

use super::rank;
use crate::{
    common::{clock, ownership, pods},
    constants::REPLICA_BURST_MAX,
};

/// What to do about the number of pods.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub create: usize,
    pub delete: Vec<Arc<Pod>>,
}

/// How many pods to create or which to delete, at most [`REPLICA_BURST_MAX`] at a time. `active` are the pods
/// of the set that are neither finished nor being deleted.
pub fn replicas(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    siblings_by_node: &BTreeMap<String, usize>,
    now: Timestamp,
) -> Plan {
    let wanted = wanted(set);
    if active.len() <= wanted {
        return Plan { create: (wanted - active.len()).min(REPLICA_BURST_MAX), delete: Vec::new() };
    }
    let mut delete = active.to_vec();
    rank::by_deletion(&mut delete, siblings_by_node, now);
    delete.truncate((active.len() - wanted).min(REPLICA_BURST_MAX));
    Plan { create: 0, delete }
}

/// `spec.replicas`; the API's default is 1.
pub fn wanted(set: &ReplicaSet) -> usize {
    let replicas = set.spec.replicas.unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

/// How many of the pods are where, counted for the deletion order.
pub fn count_by_node<'a>(pods: impl IntoIterator<Item = &'a Arc<Pod>>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in pods {
        let node = pods::node_name(pod);
        if !node.is_empty() && pods::is_active(pod) {
            *counts.entry(node.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// A pod made from the set's template.
pub fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name())),
            namespace: Some(set.namespace().to_owned()),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![ownership::controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The status that the pods imply, and when it changes by time alone (a pod becomes available). `failure` is
/// why pods could not be created or deleted.
pub fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    failure: Option<&Failure>,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Duration>) {
    let old = set.status.clone().unwrap_or_default();
    let spec = &set.spec;
    let min_ready = clock::seconds(spec.min_ready_seconds.unwrap_or(0));
    let template_labels = spec.template.as_ref().and_then(|t| t.metadata.as_ref()?.labels.as_ref());
    let labelled = |pod: &&Arc<Pod>| template_labels.into_iter().flatten().all(|(k, v)| pod.label(k) == Some(v));
    let waits: Vec<Duration> = active.iter().filter_map(|pod| pods::available_in(pod, min_ready, now)).collect();
    let status = ReplicaSetStatus {
        replicas: number(active.len()),
        fully_labeled_replicas: Some(number(active.iter().filter(labelled).count())),
        ready_replicas: Some(number(waits.len())),
        available_replicas: Some(number(waits.iter().filter(|wait| wait.is_zero()).count())),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, failure, now),
        terminating_replicas: old.terminating_replicas,
    };
    (status, waits.into_iter().filter(|wait| !wait.is_zero()).min())
}

/// Why the number of pods could not be brought to what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    pub message: String,
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let present = conditions.iter().any(|condition| condition.type_.as_deref() == Some("ReplicaFailure"));
    match failure {
        None => conditions.retain(|condition| condition.type_.as_deref() != Some("ReplicaFailure")),
        // The first cause stays until the set succeeds, as in Kubernetes.
        Some(_) if present => {}
        Some(failure) => conditions.push(ReplicaSetCondition {
            type_: Some("ReplicaFailure".to_owned()),
            status: Some("True".to_owned()),
            last_transition_time: Some(Time(now)),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
        }),
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// Whether writing `new` would change anything that readers see.
pub fn status_differs(old: &ReplicaSetStatus, new: &ReplicaSetStatus) -> bool {
    let counts = |status: &ReplicaSetStatus| {
        let number = |value: Option<i32>| value.unwrap_or(0);
        (
            status.replicas,
            number(status.fully_labeled_replicas),
            number(status.ready_replicas),
            number(status.available_replicas),
            status.observed_generation.unwrap_or(0),
        )
    };
    let conditions = |status: &ReplicaSetStatus| status.conditions.clone().unwrap_or_default();
    counts(old) != counts(new) || conditions(old) != conditions(new)
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn set(replicas: i32, min_ready_s: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "u", "generation": 3},
            "spec": {"replicas": replicas, "minReadySeconds": min_ready_s, "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}},
        }))
        .unwrap()
    }

    fn pod(name: &str, ready_at: Option<&str>) -> Arc<Pod> {
        let mut value = json!({"metadata": {"name": name, "uid": name, "labels": {"a": "b"}}});
        if let Some(at) = ready_at {
            value["status"] = json!({"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": at}]});
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn availability_comes_with_time() {
        let pods = [pod("a", Some("2026-01-01T00:59:40Z")), pod("b", Some("2026-01-01T00:00:00Z")), pod("c", None)];
        let (status, next) = status(&set(3, 30), &pods, None, now());
        assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (3, Some(2), Some(1)));
        assert_eq!((status.fully_labeled_replicas, status.observed_generation), (Some(3), Some(3)));
        assert_eq!(next, Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_failure_is_said_once_and_taken_back() {
        let failure = Failure { reason: "FailedCreate", message: "no".into() };
        let mut set = set(1, 0);
        let (failed, _) = status(&set, &[], Some(&failure), now());
        assert!(status_differs(&ReplicaSetStatus::default(), &failed));
        set.status = Some(failed.clone());
        let later = Failure { reason: "FailedCreate", message: "still no".into() };
        assert_eq!(status(&set, &[], Some(&later), "2026-01-01T02:00:00Z".parse().unwrap()).0, failed);
        assert_eq!(status(&set, &[], None, now()).0.conditions, None);
    }

    #[test]
    fn a_burst_is_bounded() {
        let none = BTreeMap::new();
        let burst = i32::try_from(REPLICA_BURST_MAX).unwrap();
        assert_eq!(replicas(&set(burst, 0), &[], &none, now()).create, REPLICA_BURST_MAX);
        assert_eq!(replicas(&set(burst + 1, 0), &[], &none, now()).create, REPLICA_BURST_MAX);
        let many: Vec<_> = (0..=REPLICA_BURST_MAX).map(|i| pod(&format!("{i}"), None)).collect();
        assert_eq!(replicas(&set(0, 0), &many, &none, now()).delete.len(), REPLICA_BURST_MAX);
    }

    proptest! {
        #[test]
        fn applying_the_plan_settles(wanted in 0..40i32, present in 0..40usize, seed in 0..1_000usize) {
            let ready = |i: usize| (i * 7 + seed).is_multiple_of(3).then_some("2026-01-01T00:00:00Z");
            let mut pods: Vec<_> = (0..present).map(|i| pod(&format!("p{i}"), ready(i))).collect();
            let mut set = set(wanted, 0);
            let plan = replicas(&set, &pods, &count_by_node(&pods), now());
            prop_assert!(plan.create == 0 || plan.delete.is_empty());
            pods.retain(|p| !plan.delete.iter().any(|d| d.uid() == p.uid()));
            (0..plan.create).for_each(|i| pods.push(pod(&format!("new{i}"), None)));
            prop_assert_eq!(pods.len(), wanted as usize);
            let again = replicas(&set, &pods, &count_by_node(&pods), now());
            prop_assert!(again.create == 0 && again.delete.is_empty());
            set.status = Some(status(&set, &pods, None, now()).0);
            prop_assert!(!status_differs(set.status.as_ref().unwrap(), &status(&set, &pods, None, now()).0));
        }
    }
}
