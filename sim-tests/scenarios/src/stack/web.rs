//! The user of a Deployment and its Service: creates both, scales, updates, deletes pods.

use std::time::Duration;

use keelstone_checkers::Outcome;
use keelstone_client::{
    Client, ClientError, DeleteOptions, DynamicApi, DynamicObject, ListOptions, Object, Patch, PatchOptions,
};
use keelstone_env::Random;
use keelstone_machinery::gvk::GroupVersionResource;
use keelstone_world::SeededRandom;
use serde_json::{json, Value};

use super::configs::judge;
use crate::{effort::Effort, plan::Knobs};

pub const NAME: &str = "web";
pub const SELECTOR: &str = "app=web";
pub const SURGE: i64 = 1;
/// At most so many; with the surge they fit on the three nodes.
pub const REPLICAS_MAX: u64 = 5;
const THINK_MS_MIN: u64 = 100;
const THINK_MS_MAX: u64 = 900;

pub fn api(client: &Client, group: &str, resource: &str) -> DynamicApi {
    client.dynamic(&GroupVersionResource::new(group, "v1", resource)).within("default")
}

fn deployment(cpu_millis: u64) -> DynamicObject {
    DynamicObject(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": SURGE, "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "web", "image": "web:1",
                        "ports": [{"containerPort": 80}],
                        "resources": {"requests": {"cpu": format!("{cpu_millis}m")}},
                    }],
                },
            },
        },
    }))
}

fn service() -> DynamicObject {
    DynamicObject(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }))
}

/// Creates both, then changes them until the run has enough.
pub async fn run(client: Client, random: SeededRandom, knobs: Knobs, effort: Effort) {
    create(&api(&client, "apps", "deployments"), &deployment(knobs.pod_cpu_millis), &effort).await;
    create(&api(&client, "", "services"), &service(), &effort).await;
    let mut step = 0;
    while effort.goes_on() {
        tokio::time::sleep(Duration::from_millis(THINK_MS_MIN + random.below(THINK_MS_MAX))).await;
        if knobs.web_steady > 1 {
            continue;
        }
        step += 1;
        let (what, answer) = match random.below(10) {
            0..=5 if knobs.web_steady > 0 => ("delete pod", delete_a_pod(&client, &random).await),
            0..=2 => ("scale", scale(&client, 1 + random.below(REPLICAS_MAX)).await),
            3 => ("update", update(&client, step).await),
            4..=6 => ("delete pod", delete_a_pod(&client, &random).await),
            _ => ("get", get(&client).await),
        };
        count(&effort, what, answer);
    }
}

pub fn count(effort: &Effort, what: &str, answer: Result<(), ClientError>) {
    let outcome = match &answer {
        Ok(()) => Outcome::Written { revision: 0 },
        Err(error) => judge(error),
    };
    effort.count(&outcome, &format!("{what}: {answer:?}"));
}

/// Tries until the object is there.
async fn create(api: &DynamicApi, object: &DynamicObject, effort: &Effort) {
    while effort.goes_on() {
        let answer = api.create(object).await;
        let there = answer.as_ref().err().is_none_or(ClientError::is_already_exists);
        count(effort, "create", answer.map(drop));
        if there {
            return;
        }
        tokio::time::sleep(Duration::from_millis(THINK_MS_MIN)).await;
    }
}

async fn scale(client: &Client, replicas: u64) -> Result<(), ClientError> {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let api = api(client, "apps", "deployments");
    api.patch_subresource::<Value>(NAME, "scale", &patch, &PatchOptions::default()).await.map(drop)
}

async fn update(client: &Client, step: u32) -> Result<(), ClientError> {
    let containers = json!([{"name": "web", "image": format!("web:{step}")}]);
    let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
    api(client, "apps", "deployments").patch(NAME, &patch, &PatchOptions::default()).await.map(drop)
}

async fn delete_a_pod(client: &Client, random: &SeededRandom) -> Result<(), ClientError> {
    let pods = api(client, "", "pods");
    let list = pods.list(&ListOptions::cached().labels(SELECTOR)).await?;
    let living: Vec<&DynamicObject> = list.items.iter().filter(|pod| !pod.is_terminating()).collect();
    let Some(pod) = living.get(random.below(living.len() as u64) as usize) else { return Ok(()) };
    match pods.delete(pod.name(), &DeleteOptions::uid(pod.uid())).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        other => other.map(drop),
    }
}

async fn get(client: &Client) -> Result<(), ClientError> {
    api(client, "apps", "deployments").get(NAME).await.map(drop)
}
