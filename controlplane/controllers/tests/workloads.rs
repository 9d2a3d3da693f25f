//! Deployments, Services and their parts, from creation to deletion.

mod support;

use std::time::Duration;

use keelstone_client::{DeleteOptions, Propagation};
use keelstone_controllers::ControllersConfig;
use serde_json::{json, Value};
use support::{deployment, World};
use tokio::time::sleep;

fn config() -> ControllersConfig {
    ControllersConfig { root_ca: "CERTIFICATE".into(), ..ControllersConfig::default() }
}

async fn complete(world: &World, name: &str, replicas: i64) -> bool {
    let Some(deployment) = world.get("deployments", "default", name).await else { return false };
    let status = &deployment["status"];
    let counts = ["replicas", "updatedReplicas", "availableReplicas"];
    counts.iter().all(|count| status[*count] == replicas)
        && status["observedGeneration"] == deployment["metadata"]["generation"]
}

fn endpoints(slices: &[Value]) -> usize {
    slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten()).count()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_and_a_service_become_pods_and_endpoints_and_then_rest() {
    let world = World::start().await;
    let stop = world.controllers(config());
    world.node("w1").await;
    world.node("w2").await;
    world.create("deployments", deployment("web", 3, "v1")).await.unwrap();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    world.create("services", service).await.unwrap();
    world.until("three replicas", || complete(&world, "web", 3)).await;
    world.until("endpoints", || async { endpoints(&world.list("endpointslices", "default").await) >= 3 }).await;
    let older = world.get("endpoints", "default", "web").await.unwrap();
    assert_eq!(older["subsets"][0]["addresses"].as_array().unwrap().len(), 3);
    assert_eq!(older["subsets"][0]["ports"][0]["port"], 8080);
    let ca = world.get("configmaps", "default", "kube-root-ca.crt").await.unwrap();
    assert_eq!(ca["data"]["ca.crt"], "CERTIFICATE");

    let update = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    world.patch("deployments", "default", "web", update).await;
    world.until("the rollout", || complete(&world, "web", 3)).await;
    let web = world.get("deployments", "default", "web").await.unwrap();
    assert_eq!(web["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    assert_eq!(world.list("replicasets", "default").await.len(), 2);

    // At rest nothing is written, by these controllers or by their successors.
    sleep(Duration::from_secs(10)).await;
    let before = world.versions().await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.versions().await, before);
    stop.cancel();
    sleep(Duration::from_secs(3)).await;
    world.controllers(config());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.versions().await, before);

    let events = world.list("events", "default").await;
    let texts: Vec<_> = events.iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert!(texts.iter().any(|text| text.starts_with("Scaled up replica set web-") && text.ends_with("from 0 to 3")));
    assert!(texts.iter().any(|text| text.starts_with("Created pod: web-")));

    world.delete("deployments", "default", "web", DeleteOptions::default()).await;
    world
        .until("the dependents to go", || async {
            world.list("replicasets", "default").await.is_empty() && world.list("pods", "default").await.is_empty()
        })
        .await;
    world.delete("services", "default", "web", DeleteOptions::default()).await;
    world
        .until("the endpoints to go", || async {
            let slices = world.names("endpointslices", "default").await;
            !slices.iter().any(|name| name.starts_with("web-"))
                && world.get("endpoints", "default", "web").await.is_none()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn foreground_deletion_waits_and_orphans_stay() {
    let world = World::start().await;
    world.controllers(config());
    world.node("w1").await;
    world.create("deployments", deployment("fore", 2, "v1")).await.unwrap();
    world.create("deployments", deployment("left", 2, "v1")).await.unwrap();
    world.until("replicas", || async { complete(&world, "fore", 2).await && complete(&world, "left", 2).await }).await;

    // Without its agent the node's pods cannot end, so that their owners must stay.
    world.kill_node("w1");
    let foreground = DeleteOptions::default().propagation(Propagation::Foreground);
    world.delete("deployments", "default", "fore", foreground).await;
    sleep(Duration::from_secs(20)).await;
    let waiting = world.get("deployments", "default", "fore").await.unwrap();
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let pods = world.list("pods", "default").await;
    let terminating = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "fore");
    assert!(
        terminating.clone().count() == 2 && terminating.clone().all(|p| p["metadata"]["deletionTimestamp"].is_string())
    );
    world.revive_node("w1");
    world.until("the owner to go", || async { world.get("deployments", "default", "fore").await.is_none() }).await;

    let orphan = DeleteOptions::default().propagation(Propagation::Orphan);
    world.delete("deployments", "default", "left", orphan).await;
    world.until("the owner to go", || async { world.get("deployments", "default", "left").await.is_none() }).await;
    sleep(Duration::from_secs(20)).await;
    let sets = world.list("replicasets", "default").await;
    assert_eq!(sets.len(), 1);
    assert!(sets[0]["metadata"]["ownerReferences"].is_null());
    assert_eq!(world.list("pods", "default").await.len(), 2);

    // A Deployment that comes back takes the set over instead of making another.
    world.create("deployments", deployment("left", 2, "v1")).await.unwrap();
    world.until("adoption", || complete(&world, "left", 2)).await;
    assert_eq!(world.list("replicasets", "default").await.len(), 1);
    assert_eq!(world.list("pods", "default").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_with_its_content() {
    let world = World::start().await;
    world.controllers(config());
    world.node("w1").await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    world.create("namespaces", namespace).await.unwrap();
    world.until("an account", || async { world.get("serviceaccounts", "team", "default").await.is_some() }).await;
    let mut web = deployment("web", 2, "v1");
    web["metadata"]["namespace"] = json!("team");
    world.create("deployments", web).await.unwrap();
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "held", "namespace": "team", "finalizers": ["example.com/hold"]}});
    world.create("configmaps", held).await.unwrap();
    world.until("pods", || async { world.list("pods", "team").await.len() == 2 }).await;
    world.delete("namespaces", "", "team", DeleteOptions::default()).await;
    let said = || async {
        let team = world.get("namespaces", "", "team").await.unwrap();
        let conditions = team["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let text = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
        conditions.iter().any(|condition| condition["message"] == text)
    };
    world.until("the finalizer to be named", said).await;
    assert_eq!(world.names("configmaps", "team").await, ["held"]);
    assert!(world.list("pods", "team").await.is_empty());
    world.patch("configmaps", "team", "held", json!({"metadata": {"finalizers": null}})).await;
    world.until("the namespace to go", || async { world.get("namespaces", "", "team").await.is_none() }).await;
}
