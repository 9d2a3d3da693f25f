//! What must hold when caches are stale or cold, and when leadership moves.

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::Duration,
};

use keelstone_controllers::ControllersConfig;
use keelstone_runtime::constants::EXPECTATION_S_MAX;
use serde_json::{json, Value};
use support::{deployment, World};
use tokio::time::sleep;

fn uids(objects: &[Value]) -> BTreeSet<String> {
    objects.iter().map(|object| object["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
}

fn set(replicas: i32) -> Value {
    let mut set = deployment("solo", replicas, "v1");
    set["kind"] = json!("ReplicaSet");
    set
}

/// Kubernetes issue 129795: expectations run out while the cache still lacks the pods that were created.
#[tokio::test(start_paused = true)]
async fn a_stale_cache_makes_no_extra_pods_when_expectations_run_out() {
    let world = World::start().await;
    let stuck = |path: &str| path.starts_with("/api/v1/pods?") && path.contains("watch=true");
    world.controllers_through("one", ControllersConfig::default(), Arc::new(stuck));
    sleep(Duration::from_secs(10)).await;
    world.create("replicasets", set(3)).await.unwrap();
    world.until("pods", || async { world.list("pods", "default").await.len() == 3 }).await;
    for round in 0..4 {
        sleep(Duration::from_secs(EXPECTATION_S_MAX / 2)).await;
        world
            .patch("replicasets", "default", "solo", json!({"metadata": {"annotations": {"round": round.to_string()}}}))
            .await;
        assert_eq!(world.list("pods", "default").await.len(), 3);
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.list("pods", "default").await.len(), 3);
}

/// Kubernetes issues 88097 and 65200: the collector begins before it knows the owners.
#[tokio::test(start_paused = true)]
async fn a_cold_cache_collects_nothing_that_a_live_owner_has() {
    let world = World::start().await;
    let stop = world.controllers(ControllersConfig::default());
    world.node("w1").await;
    world.create("deployments", deployment("web", 3, "v1")).await.unwrap();
    world.until("pods", || async { world.list("pods", "default").await.len() == 3 }).await;
    sleep(Duration::from_secs(10)).await;
    stop.cancel();
    let before = (uids(&world.list("pods", "default").await), uids(&world.list("replicasets", "default").await));

    let cold = |path: &str| path.starts_with("/apis/apps/v1/") && path.contains('?') && !path.contains("fieldManager");
    let second = world.controllers_through("two", ControllersConfig::default(), Arc::new(cold));
    // An owner that never was: the collector is at work.
    let gone = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stray", "namespace": "default",
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "0"}]}});
    world.create("configmaps", gone).await.unwrap();
    world.until("the stray to go", || async { world.get("configmaps", "default", "stray").await.is_none() }).await;
    sleep(Duration::from_secs(120)).await;
    let after = (uids(&world.list("pods", "default").await), uids(&world.list("replicasets", "default").await));
    assert_eq!(after, before);
    second.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_owner_of_the_same_name_is_not_the_owner() {
    let world = World::start().await;
    world.controllers(ControllersConfig::default());
    let config_map = |name: &str, owners: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default", "ownerReferences": owners}})
    };
    let live = world.create("configmaps", config_map("owner", json!([]))).await.unwrap();
    let reference = |uid: &Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid});
    let (uid, other) = (live.0["metadata"]["uid"].clone(), json!("another"));
    world.create("configmaps", config_map("kept", json!([reference(&uid)]))).await.unwrap();
    world.create("configmaps", config_map("stray", json!([reference(&other)]))).await.unwrap();
    world.create("configmaps", config_map("both", json!([reference(&uid), reference(&other)]))).await.unwrap();
    world.until("the stray to go", || async { world.get("configmaps", "default", "stray").await.is_none() }).await;
    let cleaned = || async {
        let both = world.get("configmaps", "default", "both").await.unwrap();
        both["metadata"]["ownerReferences"] == json!([reference(&uid)])
    };
    world.until("the reference to go", cleaned).await;
    sleep(Duration::from_secs(30)).await;
    assert!(world.get("configmaps", "default", "kept").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_frozen_leader_is_replaced_and_does_no_harm_when_it_wakes() {
    let world = World::start().await;
    world.node("w1").await;
    let frozen = Arc::new(AtomicBool::new(false));
    let flag = frozen.clone();
    world.controllers_through("one", ControllersConfig::default(), Arc::new(move |_| flag.load(Ordering::Relaxed)));
    sleep(Duration::from_secs(5)).await;
    world.controllers_through("two", ControllersConfig::default(), Arc::new(|_| false));
    world.create("replicasets", set(4)).await.unwrap();
    world.until("pods", || async { world.list("pods", "default").await.len() == 4 }).await;

    frozen.store(true, Ordering::Relaxed);
    world.patch("replicasets", "default", "solo", json!({"spec": {"replicas": 9}})).await;
    world.until("the other to act", || async { world.list("pods", "default").await.len() == 9 }).await;
    frozen.store(false, Ordering::Relaxed);
    world.patch("replicasets", "default", "solo", json!({"spec": {"replicas": 12}})).await;
    for _ in 0..600 {
        assert!(world.list("pods", "default").await.len() <= 12);
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.list("pods", "default").await.len(), 12);
    let lease = world.get("leases", "kube-system", "kube-controller-manager").await.unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "two");
}
