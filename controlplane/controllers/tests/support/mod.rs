//! All controllers on a real API server in this process, on a virtual clock, with nodes that only pretend.
#![allow(dead_code, reason = "each test uses its own part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use k8s_openapi::api::core::v1::{Node, Pod};
use keelstone_access::User;
use keelstone_apiserver::{ApiServer, ApiServerConfig, RunningApiServer};
use keelstone_client::{
    Body, CancellationToken, Client, ClientResult, DeleteOptions, DynamicObject, InProcess, LeaderConfig, ListOptions,
    Object, Patch, PatchOptions, Transport, TransportError,
};
use keelstone_controllers::{common::discovery, run, ControllersConfig};
use keelstone_env::Env;
use keelstone_machinery::gvk::GroupVersionResource;
use keelstone_runtime::run_when_leader;
use keelstone_storage::testing::MemoryKv;
use serde_json::{json, Value};
use tokio::time::sleep;

/// A key for service account tokens, made for tests and used nowhere else.
const TOKEN_KEY: &str = include_str!("../../../../apiserver/server/tests/support/token-key.pem");

pub struct World {
    server: RunningApiServer,
    pub client: Client,
    /// Nodes whose agent runs.
    alive: Arc<Mutex<BTreeSet<String>>>,
}

/// A connection on which some requests are never answered.
struct Hanging<T> {
    inner: T,
    hangs: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

#[async_trait]
impl<T: Transport> Transport for Hanging<T> {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        if (self.hangs)(request.uri().path_and_query().map_or("", |path| path.as_str())) {
            std::future::pending::<()>().await;
        }
        self.inner.send(request).await
    }
}

pub fn gvr(text: &str) -> GroupVersionResource {
    match text {
        "deployments" | "replicasets" => GroupVersionResource::new("apps", "v1", text),
        "endpointslices" => GroupVersionResource::new("discovery.k8s.io", "v1", text),
        "leases" => GroupVersionResource::new("coordination.k8s.io", "v1", text),
        "clusterroles" => GroupVersionResource::new("rbac.authorization.k8s.io", "v1", text),
        _ => GroupVersionResource::new("", "v1", text),
    }
}

impl World {
    pub async fn start() -> Self {
        let env = Env::os();
        let config = ApiServerConfig::new("m1", TOKEN_KEY);
        let server = ApiServer::start(env.clone(), config, MemoryKv::new()).await.unwrap();
        while !server.is_ready().await {
            sleep(Duration::from_millis(10)).await;
        }
        let client = client_of(&env, &server, "kubernetes-admin", &["system:masters", "system:authenticated"]);
        let world = Self { server, client, alive: Arc::default() };
        tokio::spawn(kubelets(world.client.clone(), world.alive.clone()));
        world
    }

    /// Starts the controllers with the identity and the rights that they have in a cluster.
    pub fn controllers(&self, config: ControllersConfig) -> CancellationToken {
        self.controllers_through("one", config, Arc::new(|_| false))
    }

    /// The same, whose requests hang when `hangs` says so (by path and query).
    pub fn controllers_through(
        &self,
        identity: &'static str,
        config: ControllersConfig,
        hangs: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    ) -> CancellationToken {
        let user = User::new("system:kube-controller-manager", &["system:authenticated"]);
        let inner = InProcess::<_, Full<Bytes>>::new(self.server.local_service(user));
        let client = Client::new(Env::os(), Hanging { inner, hangs });
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let leader = LeaderConfig::new("kube-system", "kube-controller-manager", identity);
            run_when_leader(&client, leader, &stopped, |context| run(context, config.clone())).await;
        });
        stop
    }

    pub async fn node(&self, name: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        self.create("nodes", node).await.unwrap();
        self.alive.lock().unwrap().insert(name.to_owned());
    }

    pub fn kill_node(&self, name: &str) {
        self.alive.lock().unwrap().remove(name);
    }

    pub fn revive_node(&self, name: &str) {
        self.alive.lock().unwrap().insert(name.to_owned());
    }

    pub async fn create(&self, resource: &str, object: Value) -> ClientResult<DynamicObject> {
        self.client.dynamic(&gvr(resource)).create(&object.into()).await
    }

    pub async fn patch(&self, resource: &str, namespace: &str, name: &str, patch: Value) -> DynamicObject {
        let api = self.client.dynamic(&gvr(resource)).within(namespace);
        api.patch(name, &Patch::Merge(patch), &PatchOptions::default()).await.unwrap()
    }

    pub async fn delete(&self, resource: &str, namespace: &str, name: &str, options: DeleteOptions) {
        self.client.dynamic(&gvr(resource)).within(namespace).delete(name, &options).await.unwrap();
    }

    pub async fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let api = self.client.dynamic(&gvr(resource)).within(namespace);
        api.get_opt(name).await.unwrap().map(|object| object.0)
    }

    pub async fn list(&self, resource: &str, namespace: &str) -> Vec<Value> {
        let api = self.client.dynamic(&gvr(resource)).within(namespace);
        api.list_all(&ListOptions::default()).await.unwrap().items.into_iter().map(|object| object.0).collect()
    }

    pub async fn names(&self, resource: &str, namespace: &str) -> Vec<String> {
        let all = self.list(resource, namespace).await;
        all.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits for a condition, at most two minutes (of virtual time).
    pub async fn until<F: std::future::Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        for _ in 0..1_200 {
            if condition().await {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("not in time: {what}");
    }

    /// All objects but leases and events (which may come late), with their versions.
    pub async fn versions(&self) -> BTreeMap<String, String> {
        let served = discovery::served(&self.client).await.unwrap();
        let mut versions = BTreeMap::new();
        for resource in served.resources {
            let name = resource.gvr.resource.as_str();
            if !resource.allows(&["list", "watch"]) || ["events", "leases", "nodes"].contains(&name) {
                continue;
            }
            let api = self.client.dynamic(&resource.gvr);
            for object in api.list_all(&ListOptions::default()).await.unwrap().items {
                versions.insert(format!("{name} {}", object.key()), object.resource_version().to_owned());
            }
        }
        versions
    }
}

fn client_of(env: &Env, server: &RunningApiServer, user: &str, groups: &[&str]) -> Client {
    let service = server.local_service(User::new(user, groups));
    Client::new(env.clone(), InProcess::<_, Full<Bytes>>::new(service))
}

/// Takes the part of scheduler and agents: pods are assigned to a node that is alive, run at once, and end when
/// they are to.
async fn kubelets(client: Client, alive: Arc<Mutex<BTreeSet<String>>>) {
    let mut round = 0_u64;
    loop {
        let alive: Vec<String> = alive.lock().unwrap().iter().cloned().collect();
        if round.is_multiple_of(100) {
            for name in &alive {
                drop(heartbeat(&client, name, round).await);
            }
        }
        let pods = client.resource::<Pod>().list_all(&ListOptions::default()).await;
        for (index, pod) in pods.map(|list| list.items).unwrap_or_default().into_iter().enumerate() {
            // A conflict is tried again in the next round.
            drop(run_pod(&client, pod, &alive, index).await);
        }
        round += 1;
        sleep(Duration::from_millis(100)).await;
    }
}

async fn heartbeat(client: &Client, name: &str, round: u64) -> ClientResult<()> {
    let second = 1_800_000_000 + round;
    let time = k8s_openapi::jiff::Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
    let leases = client.dynamic(&gvr("leases")).within("kube-node-lease");
    let renewed = json!({"spec": {"renewTime": format!("{time:.6}"), "holderIdentity": name}});
    if leases.get_opt(name).await?.is_none() {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": renewed["spec"]});
        leases.create(&lease.into()).await?;
    } else {
        leases.patch(name, &Patch::Merge(renewed), &PatchOptions::default()).await?;
    }
    let mut node = client.resource::<Node>().get(name).await?;
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !ready {
        *conditions = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
            .map(|kind| {
                let status = if kind == "Ready" { "True" } else { "False" };
                serde_json::from_value(json!({"type": kind, "status": status, "lastHeartbeatTime": time.to_string()}))
                    .unwrap()
            })
            .to_vec();
        client.resource::<Node>().update_status(&node).await?;
    }
    Ok(())
}

async fn run_pod(client: &Client, pod: Pod, alive: &[String], index: usize) -> ClientResult<()> {
    let api = client.namespaced::<Pod>(pod.namespace());
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    if node.is_empty() {
        let schedulable = schedulable(client, alive).await?;
        if !pod.is_terminating() && !schedulable.is_empty() {
            api.bind(pod.name(), pod.uid(), &schedulable[index % schedulable.len()]).await?;
        }
        return Ok(());
    }
    if !alive.contains(&node) {
        return Ok(());
    }
    if pod.is_terminating() {
        return api.delete(pod.name(), &DeleteOptions::uid(pod.uid()).grace_period_s(0)).await.map(drop);
    }
    let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    if !running {
        let mut pod = pod;
        let address = format!("10.1.{}.{}", index / 200, index % 200 + 1);
        pod.status = serde_json::from_value(json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
        .ok();
        api.update_status(&pod).await?;
    }
    Ok(())
}

async fn schedulable(client: &Client, alive: &[String]) -> ClientResult<Vec<String>> {
    let nodes = client.resource::<Node>().list_all(&ListOptions::default()).await?.items;
    let free = |node: &&Node| node.spec.as_ref().and_then(|s| s.taints.as_ref()).is_none_or(Vec::is_empty);
    let names = nodes.iter().filter(free).map(|node| node.name().to_owned());
    Ok(names.filter(|name| alive.contains(name)).collect())
}

pub fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
                {"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]}}},
    })
}
