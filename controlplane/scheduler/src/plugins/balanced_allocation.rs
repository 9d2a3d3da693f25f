use crate::{
    constants::{BALANCED_ALLOCATION_WEIGHT, SCORE_MAX},
    framework::{Judge, Plugin},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// Prefers nodes on which CPU and memory would be used in like proportion.
pub struct BalancedAllocation;

struct Judgement<'a> {
    pod: &'a PodInfo,
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn weight(&self) -> i64 {
        BALANCED_ALLOCATION_WEIGHT
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Result<Option<Box<dyn Judge + 'a>>, String> {
        // A pod that asks for nothing unbalances nothing.
        let asks = pod.requests.cpu_milli > 0 || pod.requests.memory_bytes > 0;
        Ok(asks.then(|| Box::new(Judgement { pod }) as Box<dyn Judge>))
    }
}

impl Judge for Judgement<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let (wanted, taken, all) = (&self.pod.requests, &node.requested, &node.allocatable);
        // In millionths, so that no rounding of floating point decides.
        let used = |wanted: i64, taken: i64, all: i64| {
            let asked = i128::from(wanted) + i128::from(taken);
            (all > 0).then(|| (asked * 1_000_000 / i128::from(all)).min(1_000_000))
        };
        let cpu = used(wanted.cpu_milli, taken.cpu_milli, all.cpu_milli);
        let memory = used(wanted.memory_bytes, taken.memory_bytes, all.memory_bytes);
        // The standard deviation of two values is half their distance.
        let deviation = match (cpu, memory) {
            (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2,
            _ => 0,
        };
        i64::try_from((1_000_000 - deviation) * i128::from(SCORE_MAX) / 1_000_000).unwrap_or(0)
    }
}
