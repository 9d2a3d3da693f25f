//! What users of a cluster do. One small file each, and one list, [`all`].

mod election;
mod identities;
mod mirrors;
mod nodes;
mod objects;
mod rollouts;

use std::{path::Path, sync::Arc, time::Duration};

use http::Method;
use keelstone_chaos_bed::{Failure, Outcome};
use keelstone_chaos_store::workloads::Workload;
use keelstone_checkers::Event;
use serde_json::{json, Value};

pub use nodes::{node_changes, undisturbed, STEADY};

use crate::{
    api::{items, Api},
    constants::{IMAGE, POLL},
    processes::{POD_VARIABLE, RUN_VARIABLE},
    Timings,
};

/// All of them. `journals` is where pods write down that they ran; `workers` are as many as become nodes.
pub fn all(api: &Arc<Api>, journals: &Path, workers: usize, timings: Timings) -> Vec<Arc<dyn Workload>> {
    vec![
        Arc::new(objects::Objects::new(api.clone())),
        Arc::new(mirrors::Mirrors::new(api.clone())),
        Arc::new(rollouts::Rollouts::new(api.clone())),
        Arc::new(identities::Identities::new(api.clone(), journals.to_owned())),
        Arc::new(election::Elections::new(api.clone())),
        Arc::new(nodes::Nodes::new(api.clone(), workers, timings)),
    ]
}

/// The suite's own client, whose address no fault touches.
const OBSERVER: u32 = 63;

/// Makes an object through any master; one that is there already is fine.
async fn make(api: &Api, path: &str, object: &Value) -> Outcome<()> {
    for _ in 0..200 {
        match api.ask(OBSERVER, Method::POST, path, Some(object)).await {
            Ok(_) => return Ok(()),
            Err(said) if said.starts_with("409") => return Ok(()),
            // The namespace's first ServiceAccount may still be missing.
            Err(said) if said.starts_with('4') && !said.starts_with("403") => {
                return Err(Failure::impossible(format!("{path}: {said}")))
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
    Err(Failure::impossible(format!("{path}: no master makes it")))
}

async fn make_namespace(api: &Api, name: &str) -> Outcome<()> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    make(api, "/api/v1/namespaces", &object).await
}

/// A pod's template: a container that carries its pod's name, and ends at once when it is told to.
fn template(app: &str, namespace: &str, script: &str) -> Value {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let container = json!({
        "name": app,
        "image": IMAGE,
        "command": ["/bin/busybox", "sh", "-c", script],
        "env": [
            {"name": RUN_VARIABLE, "value": namespace},
            {"name": POD_VARIABLE, "valueFrom": field("metadata.name")},
            {"name": "POD_UID", "valueFrom": field("metadata.uid")},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "4Mi"}},
    });
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    })
}

fn deployment(app: &str, namespace: &str, replicas: u64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": app, "namespace": namespace},
        // In numbers: what a percentage comes to is not the checker's to know.
        "spec": {"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}, "replicas": replicas, "selector": {"matchLabels": {"app": app}},
                 "template": template(app, namespace, "exec /bin/busybox sleep 1000000")},
    })
}

/// Looks through any master until `seen` says yes.
///
/// # Errors
/// What was seen last, in one line.
async fn until(
    api: &Api,
    path: &str,
    limit: Duration,
    seen: impl Fn(&Value) -> Result<(), String>,
) -> Result<Value, String> {
    let begun = std::time::Instant::now();
    let mut last = String::new();
    while begun.elapsed() < limit {
        match api.ask(OBSERVER, Method::GET, path, None).await {
            Ok(answer) => match seen(&answer) {
                Ok(()) => return Ok(answer),
                Err(said) => last = said,
            },
            Err(said) => last = said,
        }
        tokio::time::sleep(POLL).await;
    }
    Err(last)
}

/// Pods that are ready and not on their way out.
fn ready(list: &Value) -> Vec<&Value> {
    items(list).filter(|p| p["metadata"]["deletionTimestamp"].is_null() && crate::api::is(p, "Ready")).collect()
}

/// The JSON of an object as it is stored.
fn stored(event: &Event) -> Option<Value> {
    let text = event.value.as_deref()?;
    serde_json::from_str(text.get(text.find('{')?..)?).ok()
}

/// Whether so many pods are ready.
fn items_ready(list: &Value, wanted: u64) -> Result<(), String> {
    let count = ready(list).len() as u64;
    (count == wanted).then_some(()).ok_or(format!("{count} of {wanted} pods are ready"))
}
