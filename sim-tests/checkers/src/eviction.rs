//! (19) Pods are evicted from a node that is away after their toleration, never before.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    objects::{text, Change, Story},
    Violation,
};

/// A node that recovers for less than this may seem to have been away all the time: a controller that lists again does
/// not see what lay between.
const RECOVERY_SEEN: Duration = Duration::from_secs(3);

/// Since when a node has been tainted so that pods have to go, and until when; `None`: it is.
#[derive(Clone, Copy, Debug)]
struct Tainted {
    since: Duration,
    until: Option<Duration>,
}

/// `time_of` tells when a revision was applied first, `toleration` for how long pods stay at least, by the fastest timer.
///
/// # Errors
/// The first pod that the taint manager marked too early.
pub fn check(changes: &[Change], time_of: impl Fn(i64) -> Duration, toleration: Duration) -> Result<(), Violation> {
    let mut nodes: BTreeMap<&str, Tainted> = BTreeMap::new();
    let mut story = Story::default();
    let mut marked: BTreeMap<&str, bool> = BTreeMap::new();
    for change in changes {
        let now = time_of(change.revision);
        match (change.resource.as_str(), &change.object) {
            ("nodes", object) => {
                let away = object.as_ref().is_some_and(must_leave);
                let before = nodes.get(change.name.as_str()).copied();
                let after = follow(before, away, now);
                if before.is_none_or(|b| b.until.is_none()) != after.is_none_or(|a| a.until.is_none()) {
                    story.tell(change.revision, &format!("{now:?}: {} tainted: {away}", change.name));
                }
                if let Some(after) = after {
                    nodes.insert(&change.name, after);
                }
            }
            ("pods", Some(pod)) if is_marked(pod) => {
                if marked.insert(&change.name, true) == Some(true) {
                    continue;
                }
                let node = text(&pod["spec"]["nodeName"]);
                let since = nodes.get(node).map(|tainted| tainted.since);
                if since.is_none_or(|since| since + toleration > now) {
                    let what = format!(
                        "at revision {} ({now:?}) {} is evicted from {node}, which is tainted since {since:?}",
                        change.revision, change.name
                    );
                    return Err(Violation::new("eviction in time (19)", story.after(&what)));
                }
            }
            ("pods", _) => {
                marked.insert(&change.name, false);
            }
            _ => {}
        }
    }
    Ok(())
}

fn follow(before: Option<Tainted>, away: bool, now: Duration) -> Option<Tainted> {
    match before {
        Some(Tainted { since, until: Some(until) }) if away && now < until + RECOVERY_SEEN => {
            Some(Tainted { since, until: None })
        }
        Some(Tainted { until: Some(_), .. }) | None if away => Some(Tainted { since: now, until: None }),
        Some(Tainted { since, until: None }) if !away => Some(Tainted { since, until: Some(now) }),
        other => other,
    }
}

fn must_leave(node: &Value) -> bool {
    let taints = node["spec"]["taints"].as_array();
    taints.into_iter().flatten().any(|taint| taint["effect"] == "NoExecute")
}

fn is_marked(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["reason"] == "DeletionByTaintManager")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::tests::set;

    fn node(revision: i64, away: bool) -> Change {
        let taints = if away { json!([{"key": "k", "effect": "NoExecute"}]) } else { json!([]) };
        Change { name: "n".into(), ..set(revision, "nodes", "n", json!({"spec": {"taints": taints}})) }
    }

    fn evicted(revision: i64) -> Change {
        let status = json!({"conditions": [{"type": "DisruptionTarget", "reason": "DeletionByTaintManager"}]});
        set(revision, "pods", "p", json!({"spec": {"nodeName": "n"}, "status": status}))
    }

    /// A revision is a second.
    fn ok(changes: &[Change]) -> bool {
        check(changes, |revision| Duration::from_secs(revision as u64), Duration::from_secs(5)).is_ok()
    }

    #[test]
    fn a_pod_leaves_after_its_toleration_and_not_before() {
        assert!(ok(&[node(1, true), evicted(6)]));
        assert!(!ok(&[node(1, true), evicted(5)]));
        assert!(!ok(&[node(1, false), evicted(9)]));
    }

    #[test]
    fn a_recovery_begins_the_time_anew_unless_it_was_short() {
        assert!(!ok(&[node(1, true), node(2, false), node(6, true), evicted(8)]));
        assert!(ok(&[node(1, true), node(2, false), node(3, true), evicted(8)]));
        // Decided before the recovery, marked after it.
        assert!(ok(&[node(1, true), node(7, false), evicted(8)]));
    }
}
