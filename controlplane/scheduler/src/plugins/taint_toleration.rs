use k8s_openapi::api::core::v1::Toleration;

use crate::{
    constants::TAINT_TOLERATION_WEIGHT,
    framework::{normalize_by_max, Judge, Plugin},
    node_info::NodeInfo,
    pod_info::PodInfo,
    selectors::{tolerates, untolerated},
    snapshot::Snapshot,
};

/// Keeps pods off nodes with taints that they do not tolerate, and prefers nodes with fewer of the soft ones.
pub struct TaintToleration;

struct Judgement<'a> {
    pod: &'a PodInfo,
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn weight(&self) -> i64 {
        TAINT_TOLERATION_WEIGHT
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Result<Option<Box<dyn Judge + 'a>>, String> {
        Ok(Some(Box::new(Judgement { pod })))
    }
}

impl Judge for Judgement<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        let taint = untolerated(self.pod, node, &["NoSchedule", "NoExecute"]);
        let reason = taint.map(|taint| {
            format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value.as_deref().unwrap_or_default())
        });
        reason.into_iter().collect()
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        let soft = |t: &&Toleration| matches!(t.effect.as_deref(), None | Some("" | "PreferNoSchedule"));
        let tolerations: Vec<_> = self.pod.spec().tolerations.iter().flatten().filter(soft).collect();
        let taints = node.taints().iter().filter(|taint| taint.effect == "PreferNoSchedule");
        let disliked = taints.filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)));
        i64::try_from(disliked.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_by_max(scores, true);
    }
}
