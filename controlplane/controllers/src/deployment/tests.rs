//! Whole rollouts, played out on a model of the ReplicaSet controller.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use keelstone_client::Object;
use proptest::prelude::*;
use serde_json::{json, Value};

use super::{
    names::{DESIRED_REPLICAS, HASH_LABEL, MAX_REPLICAS, PROGRESSING, REVISION, REVISION_HISTORY},
    plan::{plan, Action, Observed, Plan},
    sets, status,
};

fn deployment(change: Value) -> Deployment {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}},
    });
    merge(&mut value, change);
    serde_json::from_value(value).unwrap()
}

fn merge(into: &mut Value, change: Value) {
    match change {
        Value::Object(fields) => fields.into_iter().for_each(|(key, value)| merge(&mut into[key], value)),
        other => *into = other,
    }
}

/// The API with one Deployment, and its ReplicaSets' pods.
struct World {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    second: i64,
    events: Vec<String>,
    /// Pods of these images never become available.
    broken: BTreeSet<String>,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: BTreeMap::new(), second: 1_000_000, events: Vec::new(), broken: BTreeSet::new() }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.second).unwrap()
    }

    fn plan(&self) -> Plan {
        let sets: Vec<_> = self.sets.values().cloned().collect();
        let busy = |set: &&ReplicaSet| set.status.as_ref().is_some_and(|status| status.replicas > 0);
        let running = sets.iter().filter(busy).map(|set| set.uid().to_owned()).collect();
        plan(&Observed { deployment: &self.deployment, sets, running, now: self.now() })
    }

    /// Writes one plan; true if there was anything to write.
    fn step(&mut self) -> bool {
        self.second += 1;
        let plan = self.plan();
        let wrote = !plan.actions.is_empty() || plan.status.is_some();
        self.events.extend(plan.events.into_iter().map(|(_, text)| text));
        for action in plan.actions {
            match action {
                Action::Create(mut set) => {
                    set.metadata.uid = Some(format!("uid-{}", set.name()));
                    set.metadata.creation_timestamp = Some(Time(self.now()));
                    set.metadata.generation = Some(1);
                    assert!(self.sets.insert(set.name().to_owned(), set).is_none(), "created twice");
                }
                Action::Update(mut set) => {
                    set.metadata.generation = set.metadata.generation.map(|generation| generation + 1);
                    assert!(self.sets.insert(set.name().to_owned(), set).is_some(), "updated without being there");
                }
                Action::Delete(set) => drop(self.sets.remove(set.name())),
            }
        }
        if let Some(deployment) = plan.status {
            self.deployment = deployment;
        }
        wrote
    }

    /// The ReplicaSet controller and the nodes catch up; broken images are never available.
    fn run_pods(&mut self) {
        for set in self.sets.values_mut() {
            let image = set.spec.template.as_ref().unwrap().spec.as_ref().unwrap().containers[0].image.clone();
            let replicas = sets::replicas(set);
            let fine = if self.broken.contains(image.as_deref().unwrap_or_default()) { 0 } else { replicas };
            set.status = Some(ReplicaSetStatus {
                replicas,
                ready_replicas: Some(fine),
                available_replicas: Some(fine),
                observed_generation: set.metadata.generation,
                ..ReplicaSetStatus::default()
            });
        }
    }

    fn pods(&self) -> i32 {
        sets::replicas_of(self.sets.values())
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            let wrote = self.step();
            let wanted = sets::wanted(&self.deployment);
            if self.deployment.spec.paused != Some(true) {
                let max = wanted + sets::max_surge(&self.deployment);
                assert!(self.pods() <= max.max(wanted), "{} pods, {max} allowed", self.pods());
            }
            self.run_pods();
            if !wrote && !self.step() {
                return;
            }
        }
        panic!("does not settle: {:?}", self.plan());
    }

    fn change(&mut self, change: Value) {
        let mut value = serde_json::to_value(&self.deployment).unwrap();
        merge(&mut value, change);
        self.deployment = serde_json::from_value(value).unwrap();
        let generation = self.deployment.metadata.generation.get_or_insert_default();
        *generation += 1;
    }

    fn image(&mut self, image: &str) {
        self.change(json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}));
    }

    fn set_of(&self, image: &str) -> &ReplicaSet {
        let of = |set: &&ReplicaSet| {
            let spec = set.spec.template.as_ref().unwrap().spec.as_ref().unwrap();
            spec.containers[0].image.as_deref() == Some(image)
        };
        self.sets.values().find(of).unwrap()
    }

    fn progressing(&self) -> (String, String, String) {
        let condition = status::find(self.deployment.status.as_ref().unwrap(), PROGRESSING).unwrap().clone();
        (condition.status.unwrap(), condition.reason.unwrap(), condition.message.unwrap())
    }
}

#[test]
fn a_first_rollout_ends_available() {
    let mut world = World::new(deployment(json!({})));
    world.settle();
    let set = world.set_of("v1");
    let hash = set.label(HASH_LABEL).unwrap();
    assert_eq!(set.name(), format!("web-{hash}"));
    assert_eq!(set.spec.selector.match_labels.as_ref().unwrap()[HASH_LABEL], hash);
    let annotation = |key: &str| set.annotation(key).unwrap().to_owned();
    assert_eq!(
        (annotation(REVISION), annotation(DESIRED_REPLICAS), annotation(MAX_REPLICAS)),
        ("1".into(), "3".into(), "4".into())
    );
    assert_eq!(world.deployment.annotation(REVISION), Some("1"));
    assert_eq!(world.events, [format!("Scaled up replica set {} from 0 to 3", set.name())]);
    let message = format!("ReplicaSet \"{}\" has successfully progressed.", set.name());
    assert_eq!(world.progressing(), ("True".into(), "NewReplicaSetAvailable".into(), message));
    let status = world.deployment.status.as_ref().unwrap();
    assert_eq!(
        (status.updated_replicas, status.available_replicas, status.unavailable_replicas),
        (Some(3), Some(3), Some(0))
    );
    assert_eq!(status::find(status, "Available").unwrap().reason.as_deref(), Some("MinimumReplicasAvailable"));
}

#[test]
fn revisions_are_numbered_and_reused_on_rollback() {
    let mut world = World::new(deployment(json!({})));
    world.settle();
    world.image("v2");
    world.settle();
    assert_eq!(sets::revision(world.set_of("v2")), 2);
    world.image("v1");
    world.settle();
    let back = world.set_of("v1");
    assert_eq!((sets::revision(back), back.annotation(REVISION_HISTORY)), (3, Some("1")));
    assert_eq!(world.deployment.annotation(REVISION), Some("3"));
    assert_eq!(world.sets.len(), 2);
    assert_eq!((sets::replicas(back), sets::replicas(world.set_of("v2"))), (3, 0));
}

#[test]
fn a_broken_rollout_keeps_the_old_pods_and_times_out() {
    let mut world = World::new(deployment(json!({})));
    world.settle();
    world.broken.insert("bad".into());
    world.image("bad");
    world.settle();
    // 25% of 3 rounds up to one more, and down to none less.
    assert_eq!((sets::replicas(world.set_of("v1")), sets::replicas(world.set_of("bad"))), (3, 1));
    assert_eq!(world.progressing().1, "ReplicaSetUpdated");
    let again = world.plan().again_in.unwrap();
    world.second += i64::try_from(again.as_secs()).unwrap();
    world.settle();
    let message = format!("ReplicaSet \"{}\" has timed out progressing.", world.set_of("bad").name());
    assert_eq!(world.progressing(), ("False".into(), "ProgressDeadlineExceeded".into(), message));
    assert_eq!(world.plan().again_in, None);
    world.image("v3");
    world.settle();
    assert_eq!(world.progressing().1, "NewReplicaSetAvailable");
    assert_eq!(sets::replicas(world.set_of("bad")), 0);
}

#[test]
fn recreate_waits_until_all_old_pods_are_gone() {
    let recreate = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
    let mut world = World::new(deployment(recreate));
    world.settle();
    world.image("v2");
    world.step();
    assert_eq!(world.pods(), 0);
    // The old pods are still counted: nothing new is made.
    world.step();
    assert_eq!(world.sets.len(), 1);
    world.settle();
    assert_eq!(sets::replicas(world.set_of("v2")), 3);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll_out() {
    let mut world = World::new(deployment(json!({})));
    world.settle();
    world.change(json!({"spec": {"paused": true}}));
    world.image("v2");
    world.settle();
    assert_eq!(world.sets.len(), 1);
    assert_eq!(world.progressing().1, "DeploymentPaused");
    world.change(json!({"spec": {"replicas": 5}}));
    world.settle();
    assert_eq!(sets::replicas(world.set_of("v1")), 5);
    world.change(json!({"spec": {"paused": false}}));
    world.settle();
    assert_eq!(sets::replicas(world.set_of("v2")), 5);
    assert_eq!(world.progressing().1, "NewReplicaSetAvailable");
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let bounds = json!({"spec": {"replicas": 10, "strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}});
    let mut world = World::new(deployment(bounds));
    world.settle();
    world.broken.insert("bad".into());
    world.image("bad");
    world.settle();
    assert_eq!((sets::replicas(world.set_of("v1")), sets::replicas(world.set_of("bad"))), (8, 5));
    // The example of the Kubernetes documentation: 5 more, of which the larger set gets 3.
    world.change(json!({"spec": {"replicas": 15}}));
    world.step();
    assert_eq!((sets::replicas(world.set_of("v1")), sets::replicas(world.set_of("bad"))), (11, 7));
}

#[test]
fn history_is_limited() {
    let mut world = World::new(deployment(json!({"spec": {"revisionHistoryLimit": 2}})));
    for version in 1..=6 {
        world.image(&format!("v{version}"));
        world.settle();
    }
    let mut revisions: Vec<_> = world.sets.values().map(sets::revision).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [4, 5, 6]);
}

#[test]
fn a_collision_makes_another_name() {
    let template = deployment(json!({})).spec.template;
    let hashes: BTreeSet<_> = [None, Some(1), Some(2)].iter().map(|c| sets::template_hash(&template, *c)).collect();
    assert_eq!(hashes.len(), 3);
    assert!(hashes.iter().all(|hash| hash.len() == 10));
}

#[test]
fn surge_rounds_up_and_unavailable_down() {
    let bounds = |replicas: i32, surge: Value, unavailable: Value| {
        let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        let d = deployment(json!({"spec": {"replicas": replicas, "strategy": {"rollingUpdate": rolling}}}));
        (sets::max_surge(&d), sets::max_unavailable(&d))
    };
    assert_eq!(bounds(10, json!("25%"), json!("25%")), (3, 2));
    assert_eq!(bounds(1, json!("25%"), json!("25%")), (1, 0));
    assert_eq!(bounds(2, json!(0), json!("10%")), (0, 1));
    assert_eq!(bounds(3, json!(0), json!(9)), (0, 3));
    assert_eq!(bounds(0, json!("100%"), json!("100%")), (0, 0));
}

proptest! {
    /// Any sequence of changes settles in a state in which nothing is written, with never more pods than allowed.
    #[test]
    fn every_history_settles(
        steps in proptest::collection::vec((0..6usize, 0..8i32, 0..4usize, any::<bool>()), 1..12),
        surge in 0..4i32, unavailable in 0..4i32, recreate in any::<bool>(),
    ) {
        let strategy = if recreate {
            json!({"type": "Recreate", "rollingUpdate": null})
        } else {
            json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
        };
        let mut world = World::new(deployment(json!({"spec": {"strategy": strategy, "revisionHistoryLimit": 2}})));
        world.broken.insert("v3".into());
        for (what, replicas, version, settle) in steps {
            match what {
                0 | 1 => world.change(json!({"spec": {"replicas": replicas}})),
                2 => world.change(json!({"spec": {"paused": version % 2 == 0}})),
                _ => world.image(&format!("v{version}")),
            }
            if settle {
                world.run_pods();
            }
            world.step();
        }
        world.change(json!({"spec": {"paused": false}}));
        let before = world.pods();
        let wanted = sets::wanted(&world.deployment);
        // What was scaled while it was paused may be above the limit at first; from there it only shrinks.
        for _ in 0..100 {
            world.run_pods();
            if !world.step() {
                break;
            }
            let max = (wanted + sets::max_surge(&world.deployment)).max(before);
            prop_assert!(world.pods() <= max, "{} pods, {} allowed", world.pods(), max);
        }
        world.run_pods();
        let rest = world.plan();
        prop_assert!(rest.actions.is_empty() && rest.status.is_none(), "{rest:?}");
    }
}
