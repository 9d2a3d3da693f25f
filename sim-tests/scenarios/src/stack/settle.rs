//! Before the load: the API is served. After the faults: every pod ends where it should, all masters show the
//! same, list + watch is the state, and the whole log can be read.

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use keelstone_agent::runtime::ContainerPhase;
use keelstone_checkers::{objects, rest, Violation};
use keelstone_client::{ClientResult, DynamicObject, ListOptions, Object};
use keelstone_machinery::gvk::GroupVersionResource;
use keelstone_world::EPOCH_UNIX_S;
use serde_json::Value;
use tokio::time::Instant;

use super::{configs, garbage, node_loss, web, Scenario, API_PORT};
use crate::{constants::*, simulation::Stage};

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The first start, with all its bootstrap objects, takes no longer.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// Evictions and back-offs that began before the heal have passed after this.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(150);
/// So long after all is as it should be, nobody writes for [`REST`].
const BEFORE_REST: Duration = Duration::from_secs(6);
const REST: Duration = Duration::from_secs(8);

pub async fn wait_until_served(scenario: &Scenario) -> Result<(), Violation> {
    let end = Instant::now() + START_TIME_MAX;
    let namespaces = scenario.user(0).dynamic(&GroupVersionResource::new("", "v1", "namespaces"));
    loop {
        match namespaces.get("default").await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => {
                return Err(Violation::new("liveness", format!("the API is not served after the start: {error}")));
            }
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

pub async fn settle(scenario: &Scenario) -> Result<(), Violation> {
    while scenario.shared.stage() != Stage::Healed {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    settled(scenario).await?;
    if scenario.plan.knobs.node_loss > 0 {
        node_loss::check(scenario).await?;
        settled(scenario).await?;
    }
    read_log(scenario).await?;
    // Events and retries that were due have come; from here on nothing is asked for.
    tokio::time::sleep(BEFORE_REST).await;
    read_log(scenario).await?;
    let before = scenario.log.events().len();
    tokio::time::sleep(REST).await;
    read_log(scenario).await?;
    rest::check(&objects::changes(&scenario.log.events()[before..]))
}

/// Waits until all is as it should be.
async fn settled(scenario: &Scenario) -> Result<(), Violation> {
    let end = Instant::now() + SETTLE_TIME_MAX;
    loop {
        let missing = match missing(scenario).await {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            Err(error) => error.to_string(),
        };
        if Instant::now() > end {
            return Err(Violation::new("liveness", format!("after {SETTLE_TIME_MAX:?} without faults: {missing}")));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn read_log(scenario: &Scenario) -> Result<(), Violation> {
    let end = Instant::now() + LIVENESS_TIME_MAX;
    while let Err(error) = scenario.log.read(&scenario.kv()).await {
        if Instant::now() > end {
            return Err(Violation::new("liveness", format!("the log cannot be read: {error}")));
        }
    }
    Ok(())
}

/// What is still not as it should be.
async fn missing(scenario: &Scenario) -> ClientResult<Option<String>> {
    let client = scenario.user(0);
    let nodes = client.dynamic(&GroupVersionResource::new("", "v1", "nodes")).list_all(&ListOptions::default()).await?;
    let ready: BTreeSet<&str> = nodes.items.iter().filter(|n| condition(n, "Ready")).map(Object::name).collect();
    if ready.len() != scenario.workers.len() {
        return Ok(Some(format!("ready nodes: {ready:?}")));
    }
    let deployment = web::api(&client, "apps", "deployments").get(web::NAME).await?.0;
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let status = &deployment["status"];
    let counts = ["replicas", "readyReplicas", "updatedReplicas", "availableReplicas"];
    if counts.iter().any(|name| status[*name].as_u64().unwrap_or(0) != wanted)
        || status["observedGeneration"] != deployment["metadata"]["generation"]
    {
        return Ok(Some(format!("{wanted} replicas are wanted, the Deployment's status is {status}")));
    }
    let pods = web::api(&client, "", "pods").list_all(&ListOptions::default()).await?.items;
    if let Some(wrong) = pods.iter().find(|pod| !runs_well(pod, &ready)) {
        let (spec, status) = (&wrong.0["spec"]["nodeName"], &wrong.0["status"]);
        return Ok(Some(format!("pod {} on {spec}: terminating {}, {status}", wrong.name(), wrong.is_terminating())));
    }
    if pods.len() as u64 != wanted {
        return Ok(Some(format!("{} pods, {wanted} are wanted", pods.len())));
    }
    if let Some(wrong) = machines(scenario, &pods) {
        return Ok(Some(wrong));
    }
    if let Some(wrong) = endpoints(scenario, &pods).await? {
        return Ok(Some(wrong));
    }
    if let Some(wrong) = leftovers(scenario).await? {
        return Ok(Some(wrong));
    }
    masters_agree(scenario, &pods).await
}

/// No namespace is on its way out, and no dependent is left whose owner is gone.
async fn leftovers(scenario: &Scenario) -> ClientResult<Option<String>> {
    let client = scenario.user(0);
    let namespaces = client.dynamic(&GroupVersionResource::new("", "v1", "namespaces"));
    let namespaces = namespaces.list_all(&ListOptions::default()).await?.items;
    let ours = namespaces.iter().filter(|namespace| namespace.name().starts_with(super::namespaces::PREFIX));
    if let Some(leaving) = ours.into_iter().find(|namespace| namespace.is_terminating()) {
        return Ok(Some(format!("the namespace {} is still terminating: {}", leaving.name(), leaving.0["status"])));
    }
    let maps = web::api(&client, "", "configmaps").list_all(&ListOptions::default()).await?.items;
    let owners = garbage::owners(&client).await?;
    let uids: BTreeSet<&str> = owners.iter().map(Object::uid).collect();
    let orphan = maps.iter().find(|map| {
        let owner = map.0["metadata"]["ownerReferences"][0]["uid"].as_str();
        owner.is_some_and(|uid| !uids.contains(uid))
    });
    Ok(orphan.map(|orphan| format!("{} is still there, its owner is gone", orphan.name())))
}

pub fn condition(object: &DynamicObject, name: &str) -> bool {
    let conditions = object.0["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == name && c["status"] == "True")
}

fn runs_well(pod: &DynamicObject, ready: &BTreeSet<&str>) -> bool {
    let node = pod.0["spec"]["nodeName"].as_str().unwrap_or_default();
    !pod.is_terminating()
        && pod.0["status"]["phase"] == "Running"
        && condition(pod, "Ready")
        && ready.contains(node)
        && pod.label("app") == Some("web")
}

/// The machines run exactly these pods.
fn machines(scenario: &Scenario, pods: &[DynamicObject]) -> Option<String> {
    let wanted: BTreeSet<(String, String)> = pods
        .iter()
        .map(|pod| (pod.0["spec"]["nodeName"].as_str().unwrap_or_default().to_owned(), pod.uid().to_owned()))
        .collect();
    let now_ns = (u128::from(EPOCH_UNIX_S) * 1_000_000_000 + turmoil::sim_elapsed()?.as_nanos()) as i64;
    let running = |worker: &super::Worker| {
        let sandboxes = worker.machine.sandboxes(now_ns).into_iter();
        let node = worker.node.clone();
        sandboxes
            .filter(|sandbox| sandbox.containers.iter().any(|c| matches!(c.phase, ContainerPhase::Running)))
            .map(move |sandbox| (node.clone(), sandbox.pod.uid))
            .collect::<Vec<_>>()
    };
    let all: Vec<(String, String)> = scenario.workers.iter().flat_map(running).collect();
    let found: BTreeSet<(String, String)> = all.iter().cloned().collect();
    (found != wanted || all.len() != found.len()).then(|| format!("the machines run {all:?}, {wanted:?} is wanted"))
}

/// The Service's slices name exactly these pods' addresses.
async fn endpoints(scenario: &Scenario, pods: &[DynamicObject]) -> ClientResult<Option<String>> {
    let slices = web::api(&scenario.user(0), "discovery.k8s.io", "endpointslices");
    let selection = ListOptions::default().labels(format!("kubernetes.io/service-name={}", web::NAME));
    let slices = slices.list_all(&selection).await?.items;
    let listed = slices.iter().flat_map(|slice| slice.0["endpoints"].as_array().into_iter().flatten());
    let ready = listed.filter(|endpoint| endpoint["conditions"]["ready"] != Value::Bool(false));
    let found: BTreeSet<String> = ready.filter_map(|e| Some(e["addresses"][0].as_str()?.to_owned())).collect();
    let wanted: BTreeSet<String> =
        pods.iter().filter_map(|pod| Some(pod.0["status"]["podIP"].as_str()?.to_owned())).collect();
    Ok((found != wanted).then(|| format!("the Service's endpoints are {found:?}, the pods' addresses {wanted:?}")))
}

/// Each master alone lists the same, by consistent and by cached reads, and so does the watcher.
async fn masters_agree(scenario: &Scenario, pods: &[DynamicObject]) -> ClientResult<Option<String>> {
    let names = |items: &[DynamicObject]| items.iter().map(|item| item.name().to_owned()).collect::<BTreeSet<_>>();
    for master in &scenario.masters {
        let client = scenario.client(vec![format!("{master}:{API_PORT}")]);
        for options in [ListOptions::default(), ListOptions::cached()] {
            let shown = names(&web::api(&client, "", "pods").list(&options).await?.items);
            if shown != names(pods) {
                return Ok(Some(format!("{master} shows the pods {shown:?}, not {:?}", names(pods))));
            }
        }
        let list = web::api(&client, "", "configmaps").list(&ListOptions::default()).await?.items;
        let users = list.iter().filter(|object| object.name().starts_with(configs::NAME_PREFIX));
        let state: BTreeMap<String, String> =
            users.map(|object| (object.name().to_owned(), configs::value_of(object))).collect();
        let followed = scenario.followed.state();
        if scenario.plan.plant.is_none() && state != followed {
            return Ok(Some(format!("{master} lists the ConfigMaps {state:?}, list + watch has {followed:?}")));
        }
    }
    Ok(None)
}
