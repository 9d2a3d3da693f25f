//! The truth about all objects: the store's log of `/registry/`.

use std::collections::{BTreeMap, VecDeque};

use keelstone_checkers::{Event, Violation};
use serde_json::Value;

use super::{
    configs::NAME_PREFIX,
    web::{POD_CPU_MILLIS, SURGE},
    worker::NODE_CPU_MILLIS,
};

/// A controller acts on what its cache shows: for a moment an earlier number of replicas is right too.
const REMEMBERED_SPECS: usize = 3;
/// What happened before a violation is told in so many lines.
const STORY_LINES: usize = 40;
/// The magic and version of the stored envelope come before the JSON.
const ENVELOPE_BYTES: usize = 4;

/// The resource and `namespace/name` of a key of the store.
fn split(key: &str) -> Option<(&str, &str)> {
    let (_, rest) = key.strip_prefix("/registry/")?.split_once('/')?;
    rest.split_once('/')
}

fn object(event: &Event) -> Option<Value> {
    serde_json::from_str(event.value.as_deref()?.get(ENVELOPE_BYTES..)?).ok()
}

/// The log of the users' ConfigMaps, as a user sees it.
pub fn configs(log: &[Event]) -> Vec<Event> {
    let of_users = |event: &Event| {
        let (resource, name) = split(&event.key)?;
        let key = name.strip_prefix("default/").filter(|name| name.starts_with(NAME_PREFIX))?;
        if resource != "configmaps" {
            return None;
        }
        let value = object(event).map(|object| object["data"]["v"].as_str().unwrap_or_default().to_owned());
        Some(Event { revision: event.revision, key: key.to_owned(), value })
    };
    log.iter().filter_map(of_users).collect()
}

#[derive(Default)]
struct Workloads {
    /// The last specs of a ReplicaSet (by uid) or Deployment (by name), newest last.
    specs: BTreeMap<String, VecDeque<i64>>,
    /// What each ReplicaSet (by name) asks for now.
    sets: BTreeMap<String, i64>,
    pods: BTreeMap<String, Pod>,
    /// What happened, for people.
    story: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Pod {
    owner: String,
    node: String,
    living: bool,
    finished: bool,
}

/// (14) Whenever a pod is created, its ReplicaSet has not more than it asks for; whenever a ReplicaSet grows,
/// all of them together ask for not more than their Deployment, plus surge.
/// (15) No node has pods that ask for more than it has.
pub fn check_workloads(log: &[Event]) -> Result<(), Violation> {
    let mut workloads = Workloads::default();
    for event in log {
        let Some((resource, name)) = split(&event.key) else { continue };
        match resource {
            "replicasets" | "deployments" => workloads.take_spec(name, object(event).as_ref(), event.revision)?,
            "pods" => workloads.take_pod(name, object(event).as_ref(), event.revision)?,
            _ => {}
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Workloads {
    fn tell(&mut self, revision: i64, what: String) {
        self.story.push(format!("  {revision}: {what}"));
    }

    fn violation(&self, invariant: &'static str, story: &str) -> Violation {
        let last = &self.story[self.story.len().saturating_sub(STORY_LINES)..];
        Violation::new(invariant, format!("{story}; before it:\n{}", last.join("\n")))
    }

    fn take_spec(&mut self, name: &str, object: Option<&Value>, revision: i64) -> Result<(), Violation> {
        let Some(object) = object else {
            self.sets.remove(name);
            return Ok(());
        };
        let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
        let is_set = object["kind"] == "ReplicaSet";
        let id = text(&object["metadata"][if is_set { "uid" } else { "name" }]);
        let specs = self.specs.entry(id).or_default();
        if specs.back() == Some(&replicas) {
            return Ok(());
        }
        specs.push_back(replicas);
        if specs.len() > REMEMBERED_SPECS {
            specs.pop_front();
        }
        self.tell(revision, format!("{} {name} asks for {replicas}", text(&object["kind"])));
        if !is_set {
            return Ok(());
        }
        let before = self.sets.insert(name.to_owned(), replicas).unwrap_or(0);
        let (all, most) = (self.sets.values().sum::<i64>(), self.highest(super::web::NAME) + SURGE);
        if replicas > before && all > most {
            let story =
                format!("at revision {revision} the ReplicaSets ask for {all} together, at most {most} are right");
            return Err(self.violation("replicas (14)", &story));
        }
        Ok(())
    }

    /// The highest number that was asked for of late.
    fn highest(&self, id: &str) -> i64 {
        self.specs.get(id).and_then(|specs| specs.iter().max()).copied().unwrap_or(0)
    }

    fn take_pod(&mut self, name: &str, object: Option<&Value>, revision: i64) -> Result<(), Violation> {
        let Some(object) = object else {
            self.pods.remove(name);
            self.tell(revision, format!("{name} is gone"));
            return Ok(());
        };
        let finished = matches!(object["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
        let pod = Pod {
            owner: text(&object["metadata"]["ownerReferences"][0]["uid"]),
            node: text(&object["spec"]["nodeName"]),
            living: !finished && object["metadata"]["deletionTimestamp"].is_null(),
            finished,
        };
        let before = self.pods.insert(name.to_owned(), pod.clone());
        if before.as_ref() != Some(&pod) {
            self.tell(revision, format!("{name} is {pod:?}"));
        }
        if before.is_none() {
            self.check_replicas(&pod.owner, revision)?;
        }
        self.check_node(&pod.node, revision)
    }

    fn check_replicas(&self, owner: &str, revision: i64) -> Result<(), Violation> {
        let count = self.pods.values().filter(|pod| pod.living && pod.owner == owner).count() as i64;
        let most = self.highest(owner);
        if count > most {
            let story = format!(
                "at revision {revision} the ReplicaSet {owner} has {count} living pods, at most {most} are asked for"
            );
            return Err(self.violation("replicas (14)", &story));
        }
        Ok(())
    }

    fn check_node(&self, node: &str, revision: i64) -> Result<(), Violation> {
        let here =
            self.pods.values().filter(|pod| !node.is_empty() && pod.node == node && !pod.finished).count() as i64;
        if here * POD_CPU_MILLIS > NODE_CPU_MILLIS as i64 {
            let story = format!(
                "at revision {revision} {node} has {here} pods of {POD_CPU_MILLIS}m, but {NODE_CPU_MILLIS}m in all"
            );
            return Err(self.violation("no node overcommitted (15)", &story));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(revision: i64, key: &str, object: Value) -> Event {
        Event { revision, key: format!("/registry/{key}"), value: Some(format!("kso\u{1}{object}")) }
    }

    fn pod(revision: i64, name: &str, node: &str) -> Event {
        let metadata = json!({"name": name, "ownerReferences": [{"uid": "rs"}]});
        let object = json!({"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": "Running"}});
        event(revision, &format!("core/pods/default/{name}"), object)
    }

    fn sets() -> Vec<Event> {
        let spec = json!({"replicas": 4});
        vec![
            event(
                1,
                "apps/deployments/default/web",
                json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}),
            ),
            event(
                2,
                "apps/replicasets/default/web-1",
                json!({"kind": "ReplicaSet", "metadata": {"uid": "rs"}, "spec": spec}),
            ),
        ]
    }

    #[test]
    fn too_many_pods_and_an_overcommitted_node_are_told() {
        let mut log = sets();
        log.extend((1..=3).map(|i| pod(2 + i, &format!("p{i}"), "a")));
        assert_eq!(check_workloads(&log), Ok(()));
        let mut crowded = log.clone();
        crowded.push(pod(6, "p4", "a"));
        assert_eq!(check_workloads(&crowded).unwrap_err().invariant, "no node overcommitted (15)");
        log.extend([pod(6, "p4", "b"), pod(7, "p5", "b")]);
        assert_eq!(check_workloads(&log).unwrap_err().invariant, "replicas (14)");
    }

    #[test]
    fn replica_sets_that_grow_beyond_their_deployment_are_told() {
        let mut log = sets();
        let more = |revision, replicas| {
            let object = json!({"kind": "ReplicaSet", "metadata": {"uid": "new"}, "spec": {"replicas": replicas}});
            event(revision, "apps/replicasets/default/web-2", object)
        };
        log.push(more(3, 1));
        assert_eq!(check_workloads(&log), Ok(()));
        log.push(more(4, 2));
        assert_eq!(check_workloads(&log).unwrap_err().invariant, "replicas (14)");
    }

    #[test]
    fn config_maps_are_seen_as_their_users_see_them() {
        let log = [
            event(3, "core/configmaps/default/c-1", json!({"data": {"v": "x"}})),
            event(4, "core/configmaps/default/other", json!({})),
            Event { revision: 5, key: "/registry/core/configmaps/default/c-1".into(), value: None },
        ];
        let expected = [
            Event { revision: 3, key: "c-1".into(), value: Some("x".into()) },
            Event { revision: 5, key: "c-1".into(), value: None },
        ];
        assert_eq!(configs(&log), expected);
    }
}
