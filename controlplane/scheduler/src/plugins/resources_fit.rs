use crate::{
    constants::{RESOURCES_FIT_WEIGHT, SCORE_MAX},
    framework::{Judge, Plugin},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// A node's pods ask for no more than it has, and the node with the most left is preferred (LeastAllocated).
pub struct NodeResourcesFit;

struct Judgement<'a> {
    pod: &'a PodInfo,
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn weight(&self) -> i64 {
        RESOURCES_FIT_WEIGHT
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Result<Option<Box<dyn Judge + 'a>>, String> {
        Ok(Some(Box::new(Judgement { pod })))
    }
}

impl Judge for Judgement<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        let (wanted, free, taken) = (&self.pod.requests, &node.allocatable, &node.requested);
        let mut reasons = Vec::new();
        if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.pods_max {
            reasons.push("Too many pods".to_owned());
        }
        let lacks = |wanted: i64, free: i64, taken: i64| wanted > 0 && wanted > free.saturating_sub(taken);
        if lacks(wanted.cpu_milli, free.cpu_milli, taken.cpu_milli) {
            reasons.push("Insufficient cpu".to_owned());
        }
        if lacks(wanted.memory_bytes, free.memory_bytes, taken.memory_bytes) {
            reasons.push("Insufficient memory".to_owned());
        }
        if lacks(wanted.storage_bytes, free.storage_bytes, taken.storage_bytes) {
            reasons.push("Insufficient ephemeral-storage".to_owned());
        }
        let of =
            |amounts: &std::collections::BTreeMap<String, i64>, name: &str| amounts.get(name).copied().unwrap_or(0);
        for (name, amount) in &wanted.others {
            if lacks(*amount, of(&free.others, name), of(&taken.others, name)) {
                reasons.push(format!("Insufficient {name}"));
            }
        }
        reasons
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        let (wanted, taken, all) = (&self.pod.score_requests, &node.score_requested, &node.allocatable);
        let left = |wanted: i64, taken: i64, all: i64| {
            let asked = wanted.saturating_add(taken);
            (all > 0).then(|| if asked > all { 0 } else { mul_div(all - asked, SCORE_MAX, all) })
        };
        let scores: Vec<i64> = [
            left(wanted.cpu_milli, taken.cpu_milli, all.cpu_milli),
            left(wanted.memory_bytes, taken.memory_bytes, all.memory_bytes),
        ]
        .into_iter()
        .flatten()
        .collect();
        scores.iter().sum::<i64>().checked_div(i64::try_from(scores.len()).unwrap_or(1)).unwrap_or(0)
    }
}

fn mul_div(value: i64, factor: i64, divisor: i64) -> i64 {
    i64::try_from(i128::from(value) * i128::from(factor) / i128::from(divisor)).unwrap_or(i64::MAX)
}
