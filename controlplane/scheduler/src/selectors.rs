//! How pods select nodes and other pods.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration},
    apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector,
};
use keelstone_machinery::selector::LabelSelector;

use crate::{node_info::NodeInfo, pod_info::PodInfo};

/// Reads a label selector; a missing one, or one that the API server should not have taken, selects nothing.
pub fn label_selector(selector: Option<&ApiSelector>) -> LabelSelector {
    let Some(selector) = selector else { return LabelSelector::nothing() };
    let value = serde_json::to_value(selector).ok();
    value.and_then(|value| LabelSelector::from_value(&value).ok()).unwrap_or_else(LabelSelector::nothing)
}

/// A label selector, with conditions on further keys whose values are those of a pod: equal for `same`,
/// different for `other`. Keys that the pod does not have are left out.
pub struct PodSelector {
    selector: LabelSelector,
    same: BTreeMap<String, String>,
    other: BTreeMap<String, String>,
}

impl PodSelector {
    pub fn new(selector: Option<&ApiSelector>, same: &[String], other: &[String], pod: &PodInfo) -> Self {
        let values = |keys: &[String]| {
            let found = keys.iter().filter_map(|key| Some((key.clone(), pod.labels().get(key)?.clone())));
            found.collect()
        };
        Self { selector: label_selector(selector), same: values(same), other: values(other) }
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.same.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.other.iter().all(|(key, value)| labels.get(key) != Some(value))
            && self.selector.matches(labels)
    }
}

/// The pod's node selector and required node affinity take this node.
pub fn matches_node_affinity(pod: &PodInfo, node: &NodeInfo) -> bool {
    let spec = pod.spec();
    let selector = spec.node_selector.iter().flatten();
    let mut selected = selector.map(|(key, value)| node.label(key) == Some(value.as_str()));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected.all(|matches| matches) && required.is_none_or(|required| matches_selector(required, node))
}

fn matches_selector(selector: &NodeSelector, node: &NodeInfo) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_term(term, node))
}

/// A term without conditions selects nothing.
pub fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let by_field = |field: &NodeSelectorRequirement| {
        field.key == "metadata.name" && matches_requirement(field, Some(node.name.as_str()))
    };
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|e| matches_requirement(e, node.label(&e.key)))
        && fields.iter().all(by_field)
}

fn matches_requirement(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|v| v == value));
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(label, bound)| label > bound),
        "Lt" => numbers().is_some_and(|(label, bound)| label < bound),
        _ => false,
    }
}

/// The toleration covers the taint (core/v1 Toleration.ToleratesTaint).
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}

/// The first taint of one of these effects that the pod does not tolerate.
pub fn untolerated<'n>(pod: &PodInfo, node: &'n NodeInfo, effects: &[&str]) -> Option<&'n Taint> {
    let tolerations = pod.spec().tolerations.as_deref().unwrap_or_default();
    let of_effect = node.taints().iter().filter(|taint| effects.contains(&taint.effect.as_str()));
    of_effect.into_iter().find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}
