use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use keelstone_client::Object;

use crate::{
    constants::{POD_TOPOLOGY_SPREAD_WEIGHT, SCORE_MAX},
    framework::{Judge, Plugin},
    node_info::NodeInfo,
    pod_info::PodInfo,
    selectors::{matches_node_affinity, untolerated, PodSelector},
    snapshot::Snapshot,
};

/// Spreads pods over zones, nodes or other domains: required (DoNotSchedule) and preferred (ScheduleAnyway)
/// constraints. A pod without constraints but with a controller is spread, softly, from the pods of the same
/// controller, with Kubernetes' default constraints.
pub struct PodTopologySpread;

const HOSTNAME: &str = "kubernetes.io/hostname";
/// Kubernetes' default constraints: topology key and greatest skew.
const DEFAULTS: [(&str, i32); 2] = [("topology.kubernetes.io/zone", 5), (HOSTNAME, 3)];

/// Which pods a constraint counts.
enum Counted<'a> {
    Selected(PodSelector),
    /// Those of a controller, by its uid.
    Controlled(&'a str),
}

impl Counted<'_> {
    fn counts(&self, pod: &PodInfo) -> bool {
        match self {
            Self::Selected(selector) => selector.matches(pod.labels()),
            Self::Controlled(uid) => pod.pod.controller_uid() == Some(uid),
        }
    }
}

struct Constraint<'a> {
    key: &'a str,
    max_skew: i64,
    min_domains: usize,
    honor_affinity: bool,
    honor_taints: bool,
    counted: Counted<'a>,
    /// The pod that is to be placed counts, too.
    counts_itself: bool,
    /// Counted pods by domain.
    domains: BTreeMap<String, i64>,
}

struct Judgement<'a> {
    required: Vec<Constraint<'a>>,
    preferred: Vec<Constraint<'a>>,
    /// Preferred constraints come from the pod; a node without one of their keys is the worst.
    explicit: bool,
}

/// Marks a node that lacks a key of a preferred constraint.
const IGNORED: i64 = -1;

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn weight(&self) -> i64 {
        POD_TOPOLOGY_SPREAD_WEIGHT
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Option<Box<dyn Judge + 'a>>, String> {
        let constraints = pod.spec().topology_spread_constraints.as_deref().unwrap_or_default();
        let (mut required, mut preferred) = (Vec::new(), Vec::new());
        for constraint in constraints {
            let hard = constraint.when_unsatisfiable == "DoNotSchedule";
            if hard { &mut required } else { &mut preferred }.push(explicit(constraint, pod));
        }
        if constraints.is_empty() {
            let Some(controller) = pod.pod.controller_uid() else { return Ok(None) };
            preferred.extend(DEFAULTS.map(|(key, max_skew)| default(key, max_skew, controller)));
        }
        count(&mut required, pod, snapshot, true);
        count(&mut preferred, pod, snapshot, !constraints.is_empty());
        Ok(Some(Box::new(Judgement { required, preferred, explicit: !constraints.is_empty() })))
    }
}

fn explicit<'a>(constraint: &'a TopologySpreadConstraint, pod: &PodInfo) -> Constraint<'a> {
    let same = constraint.match_label_keys.as_deref().unwrap_or_default();
    let counted = Counted::Selected(PodSelector::new(constraint.label_selector.as_ref(), same, &[], pod));
    Constraint {
        key: &constraint.topology_key,
        max_skew: i64::from(constraint.max_skew),
        min_domains: constraint.min_domains.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        counts_itself: counted.counts(pod),
        counted,
        domains: BTreeMap::new(),
    }
}

fn default<'a>(key: &'static str, max_skew: i32, controller: &'a str) -> Constraint<'a> {
    Constraint {
        key,
        max_skew: i64::from(max_skew),
        min_domains: 1,
        honor_affinity: true,
        honor_taints: false,
        counts_itself: true,
        counted: Counted::Controlled(controller),
        domains: BTreeMap::new(),
    }
}

/// Fills in the domains. Nodes that lack one of the keys do not count if `all_keys` says so.
fn count(constraints: &mut [Constraint], pod: &PodInfo, snapshot: &Snapshot, all_keys: bool) {
    let keys: BTreeSet<String> = constraints.iter().map(|constraint| constraint.key.to_owned()).collect();
    if keys.is_empty() {
        return;
    }
    for node in snapshot.nodes() {
        if all_keys && keys.iter().any(|key| node.label(key).is_none()) {
            continue;
        }
        for constraint in constraints.iter_mut() {
            let left_out = constraint.honor_affinity && !matches_node_affinity(pod, node)
                || constraint.honor_taints && untolerated(pod, node, &["NoSchedule", "NoExecute"]).is_some();
            let Some(domain) = node.label(constraint.key).filter(|_| !left_out) else { continue };
            let counted = |other: &PodInfo| {
                other.namespace() == pod.namespace() && !other.pod.is_terminating() && constraint.counted.counts(other)
            };
            let pods = node.pods.values().filter(|other| counted(other)).count();
            *constraint.domains.entry(domain.to_owned()).or_default() += i64::try_from(pods).unwrap_or(i64::MAX);
        }
    }
}

impl Judge for Judgement<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        const MISMATCH: &str = "node(s) didn't match pod topology spread constraints";
        for constraint in &self.required {
            let Some(domain) = node.label(constraint.key) else {
                return vec![format!("{MISMATCH} (missing required label)")];
            };
            let fewest = match constraint.domains.values().min() {
                Some(_) if constraint.domains.len() < constraint.min_domains => 0,
                Some(fewest) => *fewest,
                // No node counts, so that there is nothing to be skewed.
                None => continue,
            };
            let here = constraint.domains.get(domain).copied().unwrap_or(0);
            if here + i64::from(constraint.counts_itself) - fewest > constraint.max_skew {
                return vec![MISMATCH.to_owned()];
            }
        }
        Vec::new()
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        let mut score = 0.0;
        for constraint in &self.preferred {
            let Some(domain) = node.label(constraint.key) else {
                if self.explicit {
                    return IGNORED;
                }
                continue;
            };
            let pods = constraint.domains.get(domain).copied().unwrap_or(0);
            // Fewer domains weigh less, as it is harder to be even over many.
            let weight = (constraint.domains.len() as f64 + 2.0).ln();
            score += pods as f64 * weight + (constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        if self.preferred.is_empty() {
            scores.fill(0);
            return;
        }
        let counted = || scores.iter().copied().filter(|score| *score != IGNORED);
        let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        for score in scores.iter_mut() {
            *score = match *score {
                IGNORED => 0,
                _ if most == 0 => SCORE_MAX,
                score => SCORE_MAX * (most + least - score) / most,
            };
        }
    }
}
