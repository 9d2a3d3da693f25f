//! The scheduler at work on an API in memory, on a virtual clock.

#[path = "../../../apiserver/client/tests/fake/mod.rs"]
mod fake;

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::Duration,
};

use fake::{FakeApi, Fault};
use http::Method;
use keelstone_client::{Body, CancellationToken, Client, LeaderConfig, Transport, TransportError};
use keelstone_env::Env;
use keelstone_runtime::run_when_leader;
use keelstone_scheduler::{run, SchedulerConfig};
use serde_json::{json, Value};
use tokio::time::sleep;

fn start(client: Client, identity: &'static str) -> CancellationToken {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        let config = LeaderConfig::new("kube-system", "kube-scheduler", identity);
        run_when_leader(&client, config, &stopped, |context| run(context, SchedulerConfig::default())).await;
    });
    stop
}

fn node(api: &FakeApi, name: &str, cpu: u32) {
    api.put("nodes", json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu.to_string(), "memory": "8Gi", "pods": "110"}}}));
}

fn pod(api: &FakeApi, name: &str, cpu: &str) {
    api.put(
        "pods",
        json!({"metadata": {"name": name, "namespace": "n"}, "spec": {
        "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}),
    );
}

fn node_of(api: &FakeApi, name: &str) -> String {
    api.get("pods", "n", name).unwrap()["spec"]["nodeName"].as_str().unwrap_or_default().to_owned()
}

fn events(api: &FakeApi, reason: &str) -> Vec<String> {
    let all = api.all("events");
    let texts = all.iter().filter(|e| e["reason"] == reason).map(|e| e["message"].as_str().unwrap().to_owned());
    texts.collect()
}

/// Assigned pods by node.
fn load(api: &FakeApi) -> BTreeMap<String, usize> {
    let mut load = BTreeMap::new();
    for pod in api.all("pods") {
        if let Some(node) = pod["spec"]["nodeName"].as_str() {
            *load.entry(node.to_owned()).or_default() += 1;
        }
    }
    load
}

#[tokio::test(start_paused = true)]
async fn pods_are_assigned_and_those_without_room_wait_for_it() {
    let api = FakeApi::new();
    node(&api, "a", 1);
    pod(&api, "first", "1");
    let stop = start(api.client(), "one");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(node_of(&api, "first"), "a");
    assert_eq!(events(&api, "Scheduled"), ["Successfully assigned n/first to a"]);

    pod(&api, "second", "1");
    sleep(Duration::from_secs(5)).await;
    let why = "0/1 nodes are available: 1 Insufficient cpu.";
    assert_eq!(events(&api, "FailedScheduling"), [why]);
    let condition = &api.get("pods", "n", "second").unwrap()["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("PodScheduled"), &json!("False")));
    assert_eq!((&condition["reason"], &condition["message"]), (&json!("Unschedulable"), &json!(why)));
    // Nothing is written while nothing changes.
    let writes = api.writes().len();
    sleep(Duration::from_secs(20)).await;
    let other = api.writes().iter().skip(writes).filter(|w| !w.contains("leases")).count();
    assert_eq!(other, 0);

    node(&api, "b", 1);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(node_of(&api, "second"), "b");
    pod(&api, "third", "1");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(node_of(&api, "third"), "");
    api.remove("pods", "n", "first");
    sleep(Duration::from_secs(15)).await;
    assert_eq!(node_of(&api, "third"), "a");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_not_its_own_are_left_alone() {
    let api = FakeApi::new();
    node(&api, "a", 8);
    let put = |name: &str, spec: Value| {
        api.put("pods", json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec}));
    };
    put("foreign", json!({"containers": [], "schedulerName": "other"}));
    put("gated", json!({"containers": [], "schedulingGates": [{"name": "wait"}]}));
    put("mine", json!({"containers": [], "schedulerName": "default-scheduler"}));
    start(api.client(), "one");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        (node_of(&api, "foreign"), node_of(&api, "gated"), node_of(&api, "mine")),
        ("".into(), "".into(), "a".into())
    );
    put("gated", json!({"containers": []}));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(node_of(&api, "gated"), "a");
}

#[tokio::test(start_paused = true)]
async fn lost_answers_neither_lose_pods_nor_overcommit() {
    let api = FakeApi::new();
    for name in ["a", "b", "c"] {
        node(&api, name, 4);
    }
    start(api.client(), "one");
    sleep(Duration::from_secs(3)).await;
    for i in 0..20 {
        let fault = [Fault::LoseAnswer, Fault::Refuse, Fault::Unavailable, Fault::Hang][i % 4];
        api.fail_next(Method::POST, fault);
        pod(&api, &format!("p{i}"), "1");
    }
    sleep(Duration::from_secs(120)).await;
    assert_eq!(load(&api), BTreeMap::from([("a".into(), 4), ("b".into(), 4), ("c".into(), 4)]));
}

#[derive(Clone)]
struct Link {
    api: FakeApi,
    cut: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl Transport for Link {
    async fn send(&self, request: http::Request<bytes::Bytes>) -> Result<http::Response<Body>, TransportError> {
        if self.cut.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.api.send(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_scheduler_takes_over_and_counts_what_the_first_assigned() {
    let api = FakeApi::new();
    node(&api, "a", 4);
    node(&api, "b", 4);
    let link = Link { api: api.clone(), cut: Arc::default() };
    start(Client::new(Env::os(), link.clone()), "one");
    sleep(Duration::from_secs(3)).await;
    start(api.client(), "two");
    for i in 0..6 {
        pod(&api, &format!("early{i}"), "1");
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(load(&api).values().sum::<usize>(), 6);
    link.cut.store(true, Ordering::Relaxed);
    for i in 0..6 {
        pod(&api, &format!("late{i}"), "1");
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(load(&api), BTreeMap::from([("a".into(), 4), ("b".into(), 4)]));
}
