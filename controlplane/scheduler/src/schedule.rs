use std::collections::BTreeMap;

use crate::{
    framework::{Judge, Plugin},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Node(String),
    /// Nowhere: the text that users read in events and in the pod's condition.
    Nowhere(String),
}

/// Decides on a node for a pod: the best of those that no plugin rejects; of equally good ones the first by
/// name. Pure: the same snapshot and pod give the same decision.
pub fn schedule(plugins: &[Box<dyn Plugin>], snapshot: &Snapshot, pod: &PodInfo) -> Decision {
    let nodes: Vec<&NodeInfo> = snapshot.nodes().collect();
    if nodes.is_empty() {
        return Decision::Nowhere("no nodes available to schedule pods".into());
    }
    let mut judges = Vec::with_capacity(plugins.len());
    for plugin in plugins {
        match plugin.prepare(pod, snapshot) {
            Ok(Some(judge)) => judges.push((plugin.weight(), judge)),
            Ok(None) => {}
            Err(reason) => return Decision::Nowhere(format!("0/{} nodes are available: {reason}.", nodes.len())),
        }
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut feasible = Vec::new();
    for node in &nodes {
        // The first plugin that rejects a node gives the reasons.
        match judges.iter().map(|(_, judge)| judge.filter(node)).find(|reasons| !reasons.is_empty()) {
            None => feasible.push(*node),
            Some(rejected) => rejected.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1),
        }
    }
    match best(&judges, &feasible) {
        Some(node) => Decision::Node(node.name.clone()),
        None => Decision::Nowhere(explain(nodes.len(), &reasons)),
    }
}

fn best<'n>(judges: &[(i64, Box<dyn Judge + '_>)], feasible: &[&'n NodeInfo]) -> Option<&'n NodeInfo> {
    if feasible.len() < 2 {
        return feasible.first().copied();
    }
    let mut totals = vec![0_i64; feasible.len()];
    for (weight, judge) in judges.iter().filter(|(weight, _)| *weight > 0) {
        let mut scores: Vec<i64> = feasible.iter().map(|node| judge.score(node)).collect();
        judge.normalize(&mut scores);
        totals.iter_mut().zip(scores).for_each(|(total, score)| *total += score * weight);
    }
    let best = totals.iter().copied().max()?;
    totals.iter().position(|total| *total == best).map(|index| feasible[index])
}

fn explain(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    let mut counted: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    counted.sort();
    format!("0/{nodes} nodes are available: {}.", counted.join(", "))
}
