use crate::{node_info::NodeInfo, pod_info::PodInfo, snapshot::Snapshot};

/// One rule of scheduling.
pub trait Plugin: Send + Sync {
    /// Kubernetes' name for it.
    fn name(&self) -> &'static str;

    /// How much its score counts; 0 if it only filters.
    fn weight(&self) -> i64 {
        0
    }

    /// Prepares to judge nodes for one pod. `None`: the plugin has nothing to say about this pod.
    ///
    /// # Errors
    /// Why the pod cannot be placed on any node.
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Option<Box<dyn Judge + 'a>>, String>;
}

/// A plugin's judgement on nodes, for one pod.
pub trait Judge {
    /// Why the pod cannot run on this node; empty if it can.
    fn filter(&self, _node: &NodeInfo) -> Vec<String> {
        Vec::new()
    }

    /// How good this node is; more is better after [`Judge::normalize`].
    fn score(&self, _node: &NodeInfo) -> i64 {
        0
    }

    /// Brings the scores of all nodes that passed the filters into 0..=[`crate::constants::SCORE_MAX`].
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Scales scores so that the best becomes `SCORE_MAX` (or, reversed, the worst 0 and what has nothing the best).
pub fn normalize_by_max(scores: &mut [i64], reverse: bool) {
    let best = crate::constants::SCORE_MAX;
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores.iter_mut() {
        let scaled = if max > 0 { *score * best / max } else { 0 };
        *score = if reverse { best - scaled } else { scaled };
    }
}
