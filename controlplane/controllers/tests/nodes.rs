//! Nodes that stop reporting, and the pods on them.

mod support;

use std::time::Duration;

use keelstone_controllers::{node_lifecycle::NodeLifecycleConfig, ControllersConfig};
use serde_json::Value;
use support::{deployment, World};
use tokio::time::{sleep, Instant};

const GRACE_S: u64 = 40;
const TOLERATION_S: u64 = 300;

fn config() -> ControllersConfig {
    let node_lifecycle =
        NodeLifecycleConfig { grace_period: Duration::from_secs(GRACE_S), ..NodeLifecycleConfig::default() };
    ControllersConfig { node_lifecycle, ..ControllersConfig::default() }
}

fn ready(node: &Value) -> &str {
    let conditions = node["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|c| c["type"] == "Ready").unwrap()["status"].as_str().unwrap()
}

fn taints(node: &Value) -> Vec<String> {
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    taints.iter().map(|t| format!("{}:{}", t["key"].as_str().unwrap(), t["effect"].as_str().unwrap())).collect()
}

async fn on(world: &World, node: &str) -> Vec<Value> {
    let mut pods = world.list("pods", "default").await;
    pods.retain(|pod| pod["spec"]["nodeName"] == node);
    pods
}

async fn start(names: &[&str]) -> World {
    let world = World::start().await;
    world.controllers(config());
    for name in names {
        world.node(name).await;
    }
    for name in names {
        let free = || async { taints(&world.get("nodes", "", name).await.unwrap()).is_empty() };
        world.until("the node to be ready", free).await;
    }
    world
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_is_tainted_after_the_grace_period_and_its_pods_go_after_their_toleration() {
    let world = start(&["w1", "w2", "w3"]).await;
    world.create("deployments", deployment("web", 6, "v1")).await.unwrap();
    world.until("pods", || async { on(&world, "w1").await.len() >= 2 && on(&world, "w2").await.len() >= 2 }).await;
    sleep(Duration::from_secs(15)).await;
    let lost = Instant::now();
    world.kill_node("w1");
    let is_ready = || async { ready(&world.get("nodes", "", "w1").await.unwrap()) == "True" };
    while is_ready().await {
        sleep(Duration::from_millis(500)).await;
    }
    // The last renewal was up to ten seconds before.
    let noticed_s = lost.elapsed().as_secs();
    assert!((GRACE_S - 10..=GRACE_S + 12).contains(&noticed_s), "noticed after {noticed_s} s");
    sleep(Duration::from_secs(2)).await;
    let node = world.get("nodes", "", "w1").await.unwrap();
    let (no_schedule, no_execute) =
        ("node.kubernetes.io/unreachable:NoSchedule".to_owned(), "node.kubernetes.io/unreachable:NoExecute".to_owned());
    assert!(taints(&node).contains(&no_schedule) && taints(&node).contains(&no_execute), "{node}");
    let pods = on(&world, "w1").await;
    assert!(pods.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null()));
    assert!(pods.iter().all(|pod| pod["status"]["conditions"][0]["status"] == "False"), "{pods:?}");
    assert_eq!(ready(&world.get("nodes", "", "w2").await.unwrap()), "True");

    let tainted = Instant::now();
    let leaving = || async { on(&world, "w1").await.iter().any(|p| !p["metadata"]["deletionTimestamp"].is_null()) };
    while !leaving().await {
        assert!(tainted.elapsed().as_secs() < TOLERATION_S + 10, "never evicted");
        sleep(Duration::from_secs(1)).await;
    }
    let left_s = tainted.elapsed().as_secs();
    assert!(left_s >= TOLERATION_S - 4, "evicted after {left_s} s");
    let elsewhere = || async { on(&world, "w2").await.len() + on(&world, "w3").await.len() == 6 };
    world.until("replacements", elsewhere).await;

    world.revive_node("w1");
    let back = || async {
        let node = world.get("nodes", "", "w1").await.unwrap();
        ready(&node) == "True" && taints(&node).is_empty() && on(&world, "w1").await.is_empty()
    };
    world.until("the node to be back", back).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_returns_in_time_keeps_its_pods() {
    let world = start(&["w1", "w2", "w3"]).await;
    world.create("deployments", deployment("web", 3, "v1")).await.unwrap();
    world.until("a pod", || async { !on(&world, "w1").await.is_empty() }).await;
    let uids = |pods: Vec<Value>| pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect::<Vec<_>>();
    let before = uids(on(&world, "w1").await);
    world.kill_node("w1");
    sleep(Duration::from_secs(GRACE_S + 100)).await;
    assert_eq!(ready(&world.get("nodes", "", "w1").await.unwrap()), "Unknown");
    world.revive_node("w1");
    sleep(Duration::from_secs(TOLERATION_S + 60)).await;
    let after = on(&world, "w1").await;
    assert!(after.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null()));
    assert_eq!(uids(after), before);
}

#[tokio::test(start_paused = true)]
async fn when_no_node_reports_nothing_is_evicted() {
    let world = start(&["w1", "w2"]).await;
    world.create("deployments", deployment("web", 4, "v1")).await.unwrap();
    world.until("pods", || async { !on(&world, "w1").await.is_empty() && !on(&world, "w2").await.is_empty() }).await;
    sleep(Duration::from_secs(15)).await;
    world.kill_node("w1");
    world.kill_node("w2");
    sleep(Duration::from_secs(GRACE_S + TOLERATION_S + 120)).await;
    for name in ["w1", "w2"] {
        let node = world.get("nodes", "", name).await.unwrap();
        assert_eq!(ready(&node), "Unknown");
        assert_eq!(taints(&node), ["node.kubernetes.io/unreachable:NoSchedule"]);
    }
    let pods = world.list("pods", "default").await;
    assert!(pods.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null()));
}
