use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};
use keelstone_machinery::selector::LabelSelector;

use crate::{
    constants::{HARD_POD_AFFINITY_WEIGHT, INTER_POD_AFFINITY_WEIGHT, SCORE_MAX},
    framework::{Judge, Plugin},
    node_info::NodeInfo,
    pod_info::PodInfo,
    selectors::{label_selector, PodSelector},
    snapshot::Snapshot,
};

/// Pods near to, or away from, other pods: required and preferred terms, of the pod and of those that run.
pub struct InterPodAffinity;

/// A domain: topology key and value.
type Domain = (String, String);

/// A term of a pod's affinity, ready to be matched.
struct Term<'a> {
    key: &'a str,
    namespaces: BTreeSet<&'a str>,
    namespace_selector: Option<LabelSelector>,
    selector: PodSelector,
}

impl<'a> Term<'a> {
    fn new(term: &'a PodAffinityTerm, owner: &'a PodInfo) -> Self {
        let mut namespaces: BTreeSet<&str> = term.namespaces.iter().flatten().map(String::as_str).collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(owner.namespace());
        }
        let same = term.match_label_keys.as_deref().unwrap_or_default();
        let other = term.mismatch_label_keys.as_deref().unwrap_or_default();
        Self {
            key: &term.topology_key,
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().map(|selector| label_selector(Some(selector))),
            selector: PodSelector::new(term.label_selector.as_ref(), same, other, owner),
        }
    }

    fn matches(&self, pod: &PodInfo, snapshot: &Snapshot) -> bool {
        let selected = |selector: &LabelSelector| {
            let none = BTreeMap::new();
            selector.matches(snapshot.namespace_labels(pod.namespace()).unwrap_or(&none))
        };
        let in_namespace =
            self.namespaces.contains(pod.namespace()) || self.namespace_selector.as_ref().is_some_and(selected);
        in_namespace && self.selector.matches(pod.labels())
    }

    fn domain(&self, node: &NodeInfo) -> Option<Domain> {
        Some((self.key.to_owned(), node.label(self.key)?.to_owned()))
    }
}

#[derive(Default)]
struct Judgement<'a> {
    affinity: Vec<Term<'a>>,
    anti_affinity: Vec<Term<'a>>,
    /// Running pods that match all required affinity terms, by the domains of these terms.
    wanted: BTreeMap<Domain, usize>,
    /// Domains with a pod that the pod's required anti-affinity keeps away from.
    avoided: BTreeSet<Domain>,
    /// Domains that running pods keep this pod away from.
    forbidden: BTreeSet<Domain>,
    matches_itself: bool,
    /// The weight of preferred terms by domain.
    preferred: BTreeMap<Domain, i64>,
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn weight(&self) -> i64 {
        INTER_POD_AFFINITY_WEIGHT
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Option<Box<dyn Judge + 'a>>, String> {
        let terms = |terms: &'a [PodAffinityTerm]| terms.iter().map(|term| Term::new(term, pod)).collect::<Vec<_>>();
        let preferences_of_pod = preferences(pod);
        let mut judgement = Judgement {
            affinity: terms(pod.required_affinity()),
            anti_affinity: terms(pod.required_anti_affinity()),
            ..Judgement::default()
        };
        judgement.matches_itself = judgement.affinity.iter().all(|term| term.matches(pod, snapshot));
        for node in snapshot.nodes() {
            for other in node.pods.values() {
                judgement.look_at(other, node, snapshot);
                for (term, weight) in &preferences_of_pod {
                    judgement.prefer(term, *weight, other, node, snapshot);
                }
                judgement.hear(other, pod, node, snapshot);
            }
        }
        Ok(Some(Box::new(judgement)))
    }
}

/// The preferred terms of a pod with their weights; negative for anti-affinity.
fn preferences(pod: &PodInfo) -> Vec<(Term<'_>, i64)> {
    let affinity = pod.spec().affinity.as_ref();
    let near = affinity.and_then(|a| a.pod_affinity.as_ref());
    let near = near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    let away = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
    let away = away.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    let mut preferences = weighted(near.unwrap_or_default(), 1, pod);
    preferences.extend(weighted(away.unwrap_or_default(), -1, pod));
    preferences
}

fn weighted<'a>(terms: &'a [WeightedPodAffinityTerm], sign: i64, owner: &'a PodInfo) -> Vec<(Term<'a>, i64)> {
    let read =
        |term: &'a WeightedPodAffinityTerm| (Term::new(&term.pod_affinity_term, owner), sign * i64::from(term.weight));
    terms.iter().map(read).collect()
}

impl Judgement<'_> {
    /// What a running pod means to the pod's required terms.
    fn look_at(&mut self, other: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) {
        if !self.affinity.is_empty() && self.affinity.iter().all(|term| term.matches(other, snapshot)) {
            for domain in self.affinity.iter().filter_map(|term| term.domain(node)) {
                *self.wanted.entry(domain).or_default() += 1;
            }
        }
        for term in self.anti_affinity.iter().filter(|term| term.matches(other, snapshot)) {
            self.avoided.extend(term.domain(node));
        }
    }

    /// What a running pod's own terms mean to the pod.
    fn hear(&mut self, other: &PodInfo, pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) {
        if other.spec().affinity.is_none() {
            return;
        }
        for term in other.required_anti_affinity() {
            let term = Term::new(term, other);
            if term.matches(pod, snapshot) {
                self.forbidden.extend(term.domain(node));
            }
        }
        for term in other.required_affinity() {
            self.prefer(&Term::new(term, other), HARD_POD_AFFINITY_WEIGHT, pod, node, snapshot);
        }
        for (term, weight) in preferences(other) {
            self.prefer(&term, weight, pod, node, snapshot);
        }
    }

    fn prefer(&mut self, term: &Term, weight: i64, matched: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) {
        if let Some(domain) = term.domain(node).filter(|_| term.matches(matched, snapshot)) {
            *self.preferred.entry(domain).or_default() += weight;
        }
    }

    fn affinity_is_met(&self, node: &NodeInfo) -> bool {
        let Some(domains) = self.affinity.iter().map(|term| term.domain(node)).collect::<Option<Vec<_>>>() else {
            return false;
        };
        // The first of a group that wants to be near its own kind may go anywhere.
        domains.iter().all(|domain| self.wanted.contains_key(domain)) || (self.wanted.is_empty() && self.matches_itself)
    }
}

impl Judge for Judgement<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        let on = |domains: &BTreeSet<Domain>| domains.iter().any(|(key, value)| node.label(key) == Some(value));
        let reason = if !self.affinity_is_met(node) {
            "node(s) didn't match pod affinity rules"
        } else if on(&self.avoided) {
            "node(s) didn't match pod anti-affinity rules"
        } else if on(&self.forbidden) {
            "node(s) didn't satisfy existing pods anti-affinity rules"
        } else {
            return Vec::new();
        };
        vec![reason.to_owned()]
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        let here = self.preferred.iter().filter(|((key, value), _)| node.label(key) == Some(value));
        here.map(|(_, weight)| weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let (Some(least), Some(most)) = (scores.iter().copied().min(), scores.iter().copied().max()) else { return };
        for score in scores.iter_mut() {
            *score = if most > least { SCORE_MAX * (*score - least) / (most - least) } else { 0 };
        }
    }
}
