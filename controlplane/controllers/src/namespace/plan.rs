use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use keelstone_client::Object;

use crate::common::discovery::{Served, ServedResource};

/// The finalizer that stands for a namespace's content.
pub const FINALIZER: &str = "kubernetes";

/// The namespace is being deleted, and its content is still this controller's to remove.
pub fn needs_emptying(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    namespace.is_terminating() && finalizers.into_iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// The namespace without this controller's finalizer.
pub fn emptied(namespace: &Namespace) -> Namespace {
    let mut emptied = namespace.clone();
    if let Some(finalizers) = emptied.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    emptied
}

/// The resources to be deleted, in stages: the next begins when nothing is left of the one before. Pods go
/// first, so that nothing they may rely on (network policies, for one) goes while they run.
pub fn stages(served: &Served) -> Vec<Vec<ServedResource>> {
    let deletable = |resource: &&ServedResource| resource.namespaced && resource.allows(&["list", "delete"]);
    let (pods, rest): (Vec<_>, Vec<_>) = served
        .resources
        .iter()
        .filter(deletable)
        .cloned()
        .partition(|resource| resource.gvr.group.is_empty() && resource.gvr.resource == "pods");
    vec![pods, rest]
}

/// How far the emptying has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Group versions that could not be asked.
    pub undiscovered: Vec<String>,
    /// What could not be listed or deleted, and why.
    pub failed: Vec<String>,
    /// Objects that are still there, by `resource.group`.
    pub remaining: BTreeMap<String, usize>,
    /// How many of them carry a finalizer, by finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

impl Outcome {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The status that says so, with Kubernetes' types, reasons and texts.
pub fn status(old: Option<&NamespaceStatus>, outcome: &Outcome, now: Timestamp) -> NamespaceStatus {
    let counted = |counts: &BTreeMap<String, usize>, link: &str| {
        let parts: Vec<_> = counts.iter().map(|(name, n)| format!("{name} {link} {n} resource instances")).collect();
        parts.join(", ")
    };
    let states = [
        (
            "NamespaceDeletionDiscoveryFailure",
            (!outcome.undiscovered.is_empty()).then(|| {
                let (count, all) = (outcome.undiscovered.len(), outcome.undiscovered.join(", "));
                ("DiscoveryFailed", format!("Discovery failed for some groups, {count} failing: {all}"))
            }),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            (!outcome.failed.is_empty()).then(|| {
                let (count, all) = (outcome.failed.len(), outcome.failed.join(", "));
                ("ContentDeletionFailed", format!("Failed to delete all resource types, {count} remaining: {all}"))
            }),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        (
            "NamespaceContentRemaining",
            (!outcome.remaining.is_empty()).then(|| {
                let all = counted(&outcome.remaining, "has");
                ("SomeResourcesRemain", format!("Some resources are remaining: {all}"))
            }),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            (!outcome.finalizers.is_empty()).then(|| {
                let all = counted(&outcome.finalizers, "in");
                ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {all}"))
            }),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ];
    let mut status = old.cloned().unwrap_or_default();
    status.phase = Some("Terminating".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    for (kind, trouble, (fine_reason, fine_message)) in states {
        let (value, reason, message) = match trouble {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", fine_reason, fine_message.to_owned()),
        };
        put(conditions, kind, value, reason, message, now);
    }
    status
}

fn put(
    conditions: &mut Vec<NamespaceCondition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let new = NamespaceCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == kind) {
        None => conditions.push(new),
        Some(old) => {
            let since = if old.status == new.status { old.last_transition_time.clone() } else { None };
            *old = NamespaceCondition { last_transition_time: since.or(new.last_transition_time.clone()), ..new };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelstone_machinery::gvk::GroupVersionResource;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn pods_come_first() {
        let resource = |group: &str, name: &str, namespaced: bool| ServedResource {
            gvr: GroupVersionResource::new(group, "v1", name),
            kind: name.into(),
            namespaced,
            verbs: ["list", "delete"].map(str::to_owned).into(),
        };
        let resources = vec![
            resource("", "configmaps", true),
            resource("", "nodes", false),
            resource("", "pods", true),
            resource("metrics", "pods", true),
        ];
        let stages = stages(&Served { resources, failed: Vec::new() });
        let names =
            |stage: &Vec<ServedResource>| stage.iter().map(|r| r.gvr.group_resource().to_string()).collect::<Vec<_>>();
        assert_eq!(names(&stages[0]), ["pods"]);
        assert_eq!(names(&stages[1]), ["configmaps", "pods.metrics"]);
    }

    #[test]
    fn what_remains_is_said() {
        let outcome = Outcome {
            remaining: BTreeMap::from([("pods.".into(), 2)]),
            finalizers: BTreeMap::from([("a/b".into(), 1)]),
            ..Outcome::default()
        };
        let status = status(None, &outcome, at(1));
        let text = |kind: &str| {
            let all = status.conditions.iter().flatten();
            all.filter(|c| c.type_ == kind).find_map(|c| c.message.clone()).unwrap()
        };
        let remaining = text("NamespaceContentRemaining");
        assert_eq!(remaining, "Some resources are remaining: pods. has 2 resource instances");
        let finalizers = text("NamespaceFinalizersRemaining");
        assert_eq!(finalizers, "Some content in the namespace has finalizers remaining: a/b in 1 resource instances");
    }

    proptest! {
        #[test]
        fn the_same_outcome_is_written_once(failed in any::<bool>(), left in 0..3usize, held in 0..3usize) {
            let outcome = Outcome {
                undiscovered: failed.then(|| "g/v1".to_owned()).into_iter().collect(),
                failed: failed.then(|| "x".to_owned()).into_iter().collect(),
                remaining: (0..left).map(|i| (format!("r{i}."), i + 1)).collect(),
                finalizers: (0..held).map(|i| (format!("f{i}"), i + 1)).collect(),
            };
            let first = status(None, &outcome, at(1));
            prop_assert_eq!(&status(Some(&first), &outcome, at(9)), &first);
        }
    }
}
