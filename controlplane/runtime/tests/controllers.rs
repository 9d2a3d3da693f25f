//! A small controller on an API in memory: it makes as many pods as a config map asks for, exactly, whatever
//! happens to its requests, and writes nothing at rest.

#[path = "../../../apiserver/client/tests/fake/mod.rs"]
mod fake;

use std::{
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        Arc,
    },
    time::Duration,
};

use async_trait::async_trait;
use fake::{FakeApi, Fault};
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use keelstone_client::{
    Api, Body, CancellationToken, Client, DeleteOptions, Index, LeaderConfig, Object, Store, Transport, TransportError,
};
use keelstone_env::Env;
use keelstone_runtime::{
    constants::CATCH_UP_RETRY_MS, run_when_leader, Action, Controller, Expectations, ReconcileError, Reconciler,
    SharedInformers,
};
use serde_json::json;
use tokio::time::sleep;

struct Replicas {
    configs: Store<ConfigMap>,
    pods: Store<Pod>,
    api: Api<Pod>,
    expectations: Expectations,
    at_work: AtomicUsize,
}

#[async_trait]
impl Reconciler for Replicas {
    fn name(&self) -> &'static str {
        "replicas"
    }

    async fn reconcile(&self, key: &str) -> Result<Action, ReconcileError> {
        assert_eq!(self.at_work.fetch_add(1, Ordering::SeqCst), 0, "one key is worked on twice at a time");
        let result = self.step(key).await;
        self.at_work.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

impl Replicas {
    async fn step(&self, key: &str) -> Result<Action, ReconcileError> {
        let Some(config) = self.configs.get(key) else {
            self.expectations.forget(key);
            return Ok(Action::Done);
        };
        if !self.expectations.caught_up(key, &self.api, &self.pods).await? {
            return Ok(Action::Requeue(Duration::from_millis(CATCH_UP_RETRY_MS)));
        }
        let wanted: usize = config.data.as_ref().unwrap()["n"].parse().unwrap();
        let pods = self.pods.by_index("controller", config.uid());
        let api = self.api.within(config.namespace());
        for _ in pods.len()..wanted {
            let pod = json!({"metadata": {"generateName": "p-", "namespace": config.namespace(), "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": config.name(), "uid": config.uid(), "controller": true}]}});
            let made = api.create(&serde_json::from_value(pod).unwrap()).await;
            self.expectations.wrote(key, &made);
            made?;
        }
        for pod in pods.iter().skip(wanted) {
            let deleted = api.delete(pod.name(), &DeleteOptions::uid(pod.uid())).await;
            self.expectations.deleted(key, &**pod, &deleted);
            deleted?;
        }
        Ok(Action::Done)
    }
}

async fn run(client: &Client, stop: &CancellationToken) {
    let informers = SharedInformers::new(client);
    let (configs, pods) = (informers.store::<ConfigMap>(), informers.store::<Pod>());
    pods.add_index(Index::controller());
    let reconciler = Arc::new(Replicas {
        configs: configs.clone(),
        pods: pods.clone(),
        api: client.resource(),
        expectations: Expectations::new(client.env()),
        at_work: AtomicUsize::new(0),
    });
    let owners = configs.clone();
    Controller::new(client.env(), reconciler)
        .workers(3)
        .watch(&configs)
        .watch_mapped(&pods, move |pod: &Pod| {
            let uid = pod.controller_uid().unwrap_or_default();
            owners.list().iter().filter(|owner| owner.uid() == uid).map(|owner| owner.key()).collect()
        })
        .run(stop)
        .await;
}

fn want(api: &FakeApi, n: usize) {
    let uid = api.get("configmaps", "n", "c").map_or("u".into(), |c| c["metadata"]["uid"].as_str().unwrap().to_owned());
    api.put(
        "configmaps",
        json!({"metadata": {"name": "c", "namespace": "n", "uid": uid}, "data": {"n": n.to_string()}}),
    );
}

/// Pods ever created, and pods deleted.
fn counts(api: &FakeApi) -> (usize, usize) {
    let writes = api.writes();
    let of = |method: &str| writes.iter().filter(|w| w.starts_with(method) && w.contains("pods")).count();
    (of("POST"), of("DELETE"))
}

#[tokio::test(start_paused = true)]
async fn exactly_as_much_is_done_as_is_asked_for() {
    let api = FakeApi::new();
    want(&api, 5);
    let (client, stop) = (api.client(), CancellationToken::new());
    let stopped = stop.clone();
    let running = tokio::spawn(async move { run(&client, &stopped).await });
    sleep(Duration::from_secs(10)).await;
    assert_eq!((api.all("pods").len(), counts(&api)), (5, (5, 0)));
    want(&api, 2);
    sleep(Duration::from_secs(10)).await;
    assert_eq!((api.all("pods").len(), counts(&api)), (2, (5, 3)));
    // A removed pod is replaced.
    let name = api.all("pods")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    api.remove("pods", "n", &name);
    sleep(Duration::from_secs(10)).await;
    assert_eq!((api.all("pods").len(), counts(&api)), (2, (6, 3)));
    let revision = api.revision();
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(api.revision(), revision, "it writes at rest");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn faults_make_it_neither_more_nor_less() {
    let api = FakeApi::new();
    let (client, stop) = (api.client(), CancellationToken::new());
    tokio::spawn(async move { run(&client, &stop).await });
    sleep(Duration::from_secs(1)).await;
    for fault in [Fault::LoseAnswer, Fault::Refuse, Fault::Unavailable, Fault::LoseAnswer, Fault::Hang] {
        api.fail_next(Method::POST, fault);
        api.fail_next(Method::DELETE, fault);
    }
    want(&api, 12);
    sleep(Duration::from_secs(2)).await;
    api.break_watches();
    sleep(Duration::from_secs(120)).await;
    // A lost answer was not taken for a failure: nothing was made that had to go again.
    assert_eq!((api.all("pods").len(), counts(&api)), (12, (12, 0)));
    want(&api, 3);
    sleep(Duration::from_secs(2)).await;
    api.compact();
    api.break_watches();
    sleep(Duration::from_secs(180)).await;
    assert_eq!((api.all("pods").len(), counts(&api)), (3, (12, 9)));
}

/// A stuck leader of the store has a pod's creation in its log. Reads are answered and do not show it; renewals of the
/// lease fail until it is carried out.
#[tokio::test(start_paused = true)]
async fn a_creation_that_lies_in_a_log_is_waited_for() {
    let api = FakeApi::new();
    let (client, stop) = (api.client(), CancellationToken::new());
    tokio::spawn(async move {
        let config = LeaderConfig::new("kube-system", "controllers", "one");
        run_when_leader(&client, config, &stop, |context| async move { run(&context.client, &context.stop).await })
            .await;
    });
    sleep(Duration::from_millis(500)).await;
    api.fail_next(Method::POST, Fault::Stuck);
    (0..3).for_each(|_| api.fail_next(Method::PUT, Fault::Unavailable));
    want(&api, 1);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((api.all("pods").len(), counts(&api)), (1, (1, 0)));
}

#[derive(Clone)]
struct Link {
    api: FakeApi,
    cut: Arc<AtomicBool>,
}

#[async_trait]
impl Transport for Link {
    async fn send(&self, request: http::Request<bytes::Bytes>) -> Result<http::Response<Body>, TransportError> {
        if self.cut.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.api.send(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_acts_and_another_takes_over() {
    let api = FakeApi::new();
    want(&api, 4);
    let link = Link { api: api.clone(), cut: Arc::default() };
    for (client, name) in [(Client::new(Env::os(), link.clone()), "one"), (api.client(), "two")] {
        tokio::spawn(async move {
            let config = LeaderConfig::new("kube-system", "controllers", name);
            let stop = CancellationToken::new();
            run_when_leader(&client, config, &stop, |context| async move { run(&context.client, &context.stop).await })
                .await;
        });
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(counts(&api), (4, 0));
    link.cut.store(true, Ordering::Relaxed);
    want(&api, 6);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(counts(&api), (6, 0));
    // The first comes back, but not to power.
    link.cut.store(false, Ordering::Relaxed);
    want(&api, 7);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(counts(&api), (7, 0));
    let lease = api.get("leases", "kube-system", "controllers").unwrap();
    assert_eq!((&lease["spec"]["holderIdentity"], &lease["spec"]["leaseTransitions"]), (&json!("two"), &json!(1)));
}
