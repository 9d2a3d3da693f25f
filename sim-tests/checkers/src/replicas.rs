//! (14) Whenever a pod is created, its ReplicaSet has not more than it asks for; whenever a ReplicaSet grows, those of
//! its Deployment together ask for not more than it does, plus surge.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use crate::{
    objects::{is_over, text, Change, Story},
    Violation,
};

const INVARIANT: &str = "replicas (14)";
/// A controller acts on what its cache shows: for a moment an earlier number of replicas is right too.
const REMEMBERED_SPECS: usize = 3;

#[derive(Default)]
struct Replicas {
    /// The last numbers asked for by a ReplicaSet or Deployment (by uid), newest last.
    specs: BTreeMap<String, VecDeque<i64>>,
    /// By name: owner and what it asks for now.
    sets: BTreeMap<String, (String, i64)>,
    /// Surge by a Deployment's uid.
    surges: BTreeMap<String, i64>,
    /// By name: owner, and whether it counts.
    pods: BTreeMap<String, (String, bool)>,
    story: Story,
}

/// # Errors
/// The first pod or ReplicaSet that is too much.
pub fn check(changes: &[Change]) -> Result<(), Violation> {
    let mut replicas = Replicas::default();
    changes.iter().try_for_each(|change| match change.resource.as_str() {
        "deployments" => {
            replicas.take_deployment(change);
            Ok(())
        }
        "replicasets" => replicas.take_set(change),
        "pods" => replicas.take_pod(change),
        _ => Ok(()),
    })
}

fn owner_of(object: &Value) -> String {
    text(&object["metadata"]["ownerReferences"][0]["uid"]).to_owned()
}

impl Replicas {
    fn violation(&self, what: &str) -> Violation {
        Violation::new(INVARIANT, self.story.after(what))
    }

    /// Remembers what the object asks for; returns it if it is new.
    fn asked(&mut self, change: &Change, object: &Value) -> Option<i64> {
        let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
        let specs = self.specs.entry(text(&object["metadata"]["uid"]).to_owned()).or_default();
        if specs.back() == Some(&replicas) {
            return None;
        }
        specs.push_back(replicas);
        if specs.len() > REMEMBERED_SPECS {
            specs.pop_front();
        }
        let what = format!("{} {} asks for {replicas}", change.resource, change.name);
        self.story.tell(change.revision, &what);
        Some(replicas)
    }

    fn take_deployment(&mut self, change: &Change) {
        let Some(object) = &change.object else { return };
        let surge = object["spec"]["strategy"]["rollingUpdate"]["maxSurge"].as_i64().unwrap_or(1);
        self.surges.insert(text(&object["metadata"]["uid"]).to_owned(), surge);
        self.asked(change, object);
    }

    fn take_set(&mut self, change: &Change) -> Result<(), Violation> {
        let Some(object) = &change.object else {
            self.sets.remove(&change.name);
            return Ok(());
        };
        let Some(replicas) = self.asked(change, object) else { return Ok(()) };
        let owner = owner_of(object);
        let before = self.sets.insert(change.name.clone(), (owner.clone(), replicas)).map_or(0, |(_, r)| r);
        let Some(surge) = self.surges.get(&owner) else { return Ok(()) };
        let all: i64 = self.sets.values().filter(|(o, _)| *o == owner).map(|(_, replicas)| replicas).sum();
        let most = self.highest(&owner) + surge;
        if replicas > before && all > most {
            let revision = change.revision;
            let what =
                format!("at revision {revision} the ReplicaSets ask for {all} together, at most {most} are right");
            return Err(self.violation(&what));
        }
        Ok(())
    }

    /// The highest number that was asked for of late.
    fn highest(&self, uid: &str) -> i64 {
        self.specs.get(uid).and_then(|specs| specs.iter().max()).copied().unwrap_or(0)
    }

    fn take_pod(&mut self, change: &Change) -> Result<(), Violation> {
        let Some(object) = &change.object else {
            self.pods.remove(&change.name);
            self.story.tell(change.revision, &format!("pod {} is gone", change.name));
            return Ok(());
        };
        let owner = owner_of(object);
        let pod = (owner.clone(), !is_over(object));
        let before = self.pods.insert(change.name.clone(), pod.clone());
        if before.as_ref() != Some(&pod) {
            self.story.tell(change.revision, &format!("pod {} of {owner}, counts: {}", change.name, pod.1));
        }
        if before.is_some() || !self.specs.contains_key(&owner) {
            return Ok(());
        }
        let count = self.pods.values().filter(|(o, counts)| *counts && *o == owner).count() as i64;
        let most = self.highest(&owner);
        if count > most {
            let revision = change.revision;
            let what = format!("at revision {revision} {owner} has {count} living pods, at most {most} are asked for");
            return Err(self.violation(&what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::tests::set;

    fn owned(uid: &str, owner: &str, spec: Value) -> Value {
        json!({"metadata": {"uid": uid, "ownerReferences": [{"uid": owner}]}, "spec": spec})
    }

    fn pod(revision: i64, name: &str) -> Change {
        set(revision, "pods", name, owned(name, "rs", json!({})))
    }

    fn sets() -> Vec<Change> {
        let spec = json!({"replicas": 2, "strategy": {"rollingUpdate": {"maxSurge": 1}}});
        vec![
            set(1, "deployments", "web", json!({"metadata": {"uid": "d"}, "spec": spec})),
            set(2, "replicasets", "web-1", owned("rs", "d", json!({"replicas": 2}))),
        ]
    }

    #[test]
    fn one_pod_too_many_is_told() {
        let mut log = sets();
        log.extend([pod(3, "a"), pod(4, "b")]);
        assert_eq!(check(&log), Ok(()));
        let mut ended = log.clone();
        ended.push(set(
            5,
            "pods",
            "a",
            json!({"metadata": {"ownerReferences": [{"uid": "rs"}], "deletionTimestamp": "t"}}),
        ));
        ended.push(pod(6, "c"));
        assert_eq!(check(&ended), Ok(()));
        log.push(pod(5, "c"));
        assert_eq!(check(&log).unwrap_err().invariant, INVARIANT);
    }

    #[test]
    fn sets_that_grow_beyond_their_deployment_are_told() {
        let mut log = sets();
        log.push(set(3, "replicasets", "web-2", owned("new", "d", json!({"replicas": 1}))));
        assert_eq!(check(&log), Ok(()));
        log.push(set(4, "replicasets", "web-2", owned("new", "d", json!({"replicas": 2}))));
        assert_eq!(check(&log).unwrap_err().invariant, INVARIANT);
    }

    #[test]
    fn what_was_asked_for_a_moment_ago_is_still_right() {
        let mut log = sets();
        log.push(set(3, "replicasets", "web-1", owned("rs", "d", json!({"replicas": 1}))));
        log.extend([pod(4, "a"), pod(5, "b")]);
        assert_eq!(check(&log), Ok(()));
    }
}
