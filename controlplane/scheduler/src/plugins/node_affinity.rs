use k8s_openapi::api::core::v1::PreferredSchedulingTerm;

use crate::{
    constants::NODE_AFFINITY_WEIGHT,
    framework::{normalize_by_max, Judge, Plugin},
    node_info::NodeInfo,
    pod_info::PodInfo,
    selectors::{matches_node_affinity, matches_term},
    snapshot::Snapshot,
};

/// The pod's node selector and node affinity, required and preferred.
pub struct NodeAffinity;

struct Judgement<'a> {
    pod: &'a PodInfo,
    preferred: &'a [PreferredSchedulingTerm],
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn weight(&self) -> i64 {
        NODE_AFFINITY_WEIGHT
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Result<Option<Box<dyn Judge + 'a>>, String> {
        let affinity = pod.spec().affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
        Ok(Some(Box::new(Judgement { pod, preferred: preferred.unwrap_or_default() })))
    }
}

impl Judge for Judgement<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        if matches_node_affinity(self.pod, node) {
            Vec::new()
        } else {
            vec!["node(s) didn't match Pod's node affinity/selector".into()]
        }
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        let matching = self.preferred.iter().filter(|term| matches_term(&term.preference, node));
        matching.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_by_max(scores, false);
    }
}
