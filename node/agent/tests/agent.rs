//! A whole agent over the hollow runtime, against an API in memory.

#[path = "../../../apiserver/client/tests/fake/mod.rs"]
mod fake;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fake::FakeApi;
use keelstone_agent::{
    runtime::{HollowMachine, HollowRuntime, SandboxState},
    Agent, AgentClock, AgentConfig, Capacity,
};
use keelstone_env::Env;
use serde_json::{json, Value};
use tempfile::TempDir;

const NODE: &str = "n1";
const WAIT: Duration = Duration::from_secs(20);

struct World {
    api: FakeApi,
    machine: HollowMachine,
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        Self { api: FakeApi::new(), machine: HollowMachine::default(), dir: TempDir::new().unwrap() }
    }

    async fn agent(&self) -> Agent {
        let env = Env::os();
        let config = AgentConfig {
            node_name: NODE.into(),
            address: "127.0.0.1".into(),
            port: 0,
            labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            root_dir: self.dir.path().to_owned(),
            pod_cidr: "10.88.1.0/24".into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            capacity: Capacity { cpu_millis: 2000, memory_bytes: 1 << 30, ephemeral_storage_bytes: 1 << 30, pods: 10 },
            status_period: Duration::from_secs(1),
            lease_renew_period: Duration::from_millis(200),
            lease_duration_s: 40,
            server_tls: None,
            clock: AgentClock { observe_every: Duration::from_millis(50) },
        };
        let runtime = Arc::new(HollowRuntime::new(env.clone(), self.machine.clone(), "10.88.1"));
        Agent::start(env, config, self.api.client(), runtime).await.unwrap()
    }

    fn pod(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!(NODE);
        self.api.put("pods", json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}));
    }

    /// Asks for a graceful deletion, as the API server notes it.
    fn delete(&self, name: &str) {
        let mut pod = self.api.get("pods", "default", name).unwrap();
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        self.api.put("pods", pod);
    }

    fn status(&self, name: &str) -> Value {
        self.api.get("pods", "default", name).map(|p| p["status"].clone()).unwrap_or_default()
    }

    fn sandboxes(&self) -> Vec<SandboxState> {
        let now = Env::os().wall_now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        self.machine.sandboxes(i64::try_from(now).unwrap())
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let looking = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(WAIT, looking).await.is_err() {
            panic!("not so: {what}\npods: {:#?}\nsandboxes: {:#?}", self.api.all("pods"), self.sandboxes());
        }
    }

    async fn phase(&self, name: &str, phase: &str) {
        self.until(&format!("{name} is {phase}"), || self.status(name)["phase"] == phase).await;
    }

    fn events(&self) -> Vec<String> {
        let text = |e: &Value, field: &str| e[field].as_str().unwrap_or_default().to_owned();
        self.api.all("events").iter().map(|e| format!("{}: {}", text(e, "reason"), text(e, "message"))).collect()
    }
}

fn plain() -> Value {
    json!({"containers": [{"name": "main", "image": "image:1"}]})
}

#[tokio::test]
async fn a_pod_lives_and_goes() {
    let world = World::new();
    let _agent = world.agent().await;
    world.pod("web", plain());
    world
        .api
        .put("pods", json!({"metadata": {"name": "elsewhere", "namespace": "default"}, "spec": {"nodeName": "n2"}}));
    world.phase("web", "Running").await;
    world.until("ready", || world.status("web").to_string().contains(r#""type":"Ready""#)).await;
    let status = world.status("web");
    assert_eq!(status["podIP"], "10.88.1.2");
    assert_eq!(status["hostIP"], "127.0.0.1");
    assert_eq!(status["containerStatuses"][0]["ready"], true);
    assert!(status["containerStatuses"][0]["state"]["running"]["startedAt"].is_string());
    assert_eq!(world.sandboxes().len(), 1);

    world.delete("web");
    world.until("gone from the API", || world.api.get("pods", "default", "web").is_none()).await;
    world.until("gone from the node", || world.sandboxes().is_empty()).await;
    assert!(world.api.get("pods", "default", "elsewhere").is_some());
    world.until("events", || world.events().contains(&"Killing: Stopping container".to_owned())).await;
    assert!(world.events().contains(&"Started: Started container main".to_owned()), "{:?}", world.events());
}

#[tokio::test]
async fn the_node_and_its_lease_are_told() {
    let world = World::new();
    let _agent = world.agent().await;
    let node = || world.api.get("nodes", "", NODE).unwrap_or_default();
    world.until("node ready", || node().to_string().contains("KubeletReady")).await;
    assert_eq!(node()["metadata"]["labels"]["zone"], "a");
    assert_eq!(node()["status"]["allocatable"]["cpu"], "2000m");
    assert_eq!(node()["status"]["nodeInfo"]["containerRuntimeVersion"], "hollow://1");
    let renewed = || {
        let lease = world.api.get("leases", "kube-node-lease", NODE).unwrap_or_default();
        lease["spec"]["renewTime"].as_str().unwrap_or_default().to_owned()
    };
    world.until("lease", || !renewed().is_empty()).await;
    let first = renewed();
    world.until("lease renewed", || renewed() > first).await;
}

#[tokio::test]
async fn an_agent_that_returns_leaves_containers_alone() {
    let world = World::new();
    let agent = world.agent().await;
    world.pod("stays", plain());
    world.pod("goes", plain());
    world.phase("stays", "Running").await;
    world.phase("goes", "Running").await;
    let before = world.sandboxes();
    drop(agent);
    // One pod is deleted for good while the agent is away: its containers are left over.
    world.api.remove("pods", "default", "goes");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.sandboxes(), before);
    let _agent = world.agent().await;
    world.until("the left-over containers are ended", || world.sandboxes().len() == 1).await;
    let stays = before.iter().find(|s| s.pod.name == "stays").unwrap();
    assert_eq!(world.sandboxes(), std::slice::from_ref(stays));
    assert_eq!(world.status("stays")["containerStatuses"][0]["restartCount"], 0);
}

#[tokio::test]
async fn a_node_that_lost_its_power_starts_its_pods_again() {
    let world = World::new();
    let agent = world.agent().await;
    world.pod("web", plain());
    world.phase("web", "Running").await;
    drop(agent);
    world.machine.power_off();
    let _agent = world.agent().await;
    world.until("started again", || world.sandboxes().iter().any(|s| s.containers.len() == 1)).await;
}

#[tokio::test]
async fn jobs_end_with_their_exit_code() {
    let world = World::new();
    let _agent = world.agent().await;
    for (name, code, phase) in [("good", "0", "Succeeded"), ("bad", "3", "Failed")] {
        let container = json!({"name": "main", "image": "i", "command": ["exit", code]});
        world.pod(name, json!({"restartPolicy": "Never", "containers": [container]}));
        world.phase(name, phase).await;
        let terminated = world.status(name)["containerStatuses"][0]["state"]["terminated"].clone();
        assert_eq!(terminated["exitCode"].to_string(), code);
    }
    // The sandbox goes down, the pod stays.
    world.until("sandboxes are down", || world.sandboxes().iter().all(|s| !s.ready)).await;
    assert_eq!(world.api.all("pods").len(), 2);
}

#[tokio::test]
async fn a_pod_that_is_too_much_is_refused() {
    let world = World::new();
    let _agent = world.agent().await;
    let container = json!({"name": "main", "image": "i", "resources": {"requests": {"cpu": "3"}}});
    world.pod("big", json!({"containers": [container]}));
    world.pod(
        "odd",
        json!({"containers": [{"name": "main"}], "volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]}),
    );
    world.phase("big", "Failed").await;
    world.phase("odd", "Failed").await;
    assert_eq!(world.status("big")["reason"], "OutOfcpu");
    assert_eq!(world.status("odd")["message"], "this node does not implement the type of volume v");
    assert!(world.sandboxes().is_empty());
    world.until("event", || world.events().iter().any(|e| e.starts_with("UnsupportedPodSpec: "))).await;
}

#[tokio::test]
async fn a_pod_past_its_deadline_is_ended() {
    let world = World::new();
    let _agent = world.agent().await;
    let mut spec = plain();
    spec["activeDeadlineSeconds"] = json!(1);
    spec["terminationGracePeriodSeconds"] = json!(1);
    world.pod("late", spec);
    world.phase("late", "Running").await;
    world.phase("late", "Failed").await;
    assert_eq!(world.status("late")["reason"], "DeadlineExceeded");
    world.until("ended", || world.sandboxes().iter().all(|s| !s.ready)).await;
}

#[tokio::test]
async fn what_a_container_needs_and_is_missing_is_told() {
    let world = World::new();
    let _agent = world.agent().await;
    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]);
    world.pod("needy", json!({"containers": [{"name": "main", "image": "i", "env": env}]}));
    let reason = || world.status("needy")["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    world.until("told", || reason() == "CreateContainerConfigError").await;
    world.until("event", || world.events().contains(&"Failed: Error: configmap \"settings\" not found".into())).await;
    world.api.put("configmaps", json!({"metadata": {"name": "settings", "namespace": "default"}, "data": {"a": "1"}}));
    world.phase("needy", "Running").await;
}
