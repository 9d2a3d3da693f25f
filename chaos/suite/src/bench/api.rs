use std::{
    sync::{
        atomic::{AtomicU32, Ordering},
        Arc,
    },
    time::{Duration, Instant},
};

use http::Method;
use serde_json::{json, Value};

use super::{median, milliseconds};
use crate::{
    cluster::Cluster,
    constants::{IMAGE, REQUEST_MAX, SETTLE_MAX},
    failure::{Failure, Outcome},
    http_client::{Connection, Endpoint},
    processes::resident_bytes,
    report::eventually,
};

const CLIENTS: u32 = 32;
const LISTS: usize = 7;
const RUNNING_PODS: usize = 12;

/// Creates a second, lists, pod create to Running, memory with everything in it.
pub async fn api(cluster: Cluster, pods: u32) -> Outcome<()> {
    let endpoint = Endpoint::new(&cluster.balancer()?)?;
    let namespace = format!("bench-{}", std::process::id());
    let mut connection = Connection::new(&endpoint);
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let made = connection.send(Method::POST, "/api/v1/namespaces", Some(&body), REQUEST_MAX).await;
    made.success().map_err(Failure::Broken)?;
    let service_account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
    eventually("the default service account", SETTLE_MAX, || async {
        Connection::new(&endpoint).get(&service_account, REQUEST_MAX).await.success().map(|_| ())
    })
    .await?;
    create_to_running(&endpoint, &namespace).await?;
    creates(&endpoint, &namespace, pods).await?;
    lists(&mut connection, &namespace, pods).await?;
    for master in &cluster.masters {
        let bytes = cluster.pid(master).and_then(resident_bytes).unwrap_or(0);
        println!("memory: {master}: {:.0} MB resident with {pods} pods", bytes as f64 / 1e6);
    }
    let path = format!("/api/v1/namespaces/{namespace}");
    connection.send(Method::DELETE, &path, None, REQUEST_MAX).await.success().map_err(Failure::Broken)?;
    Ok(())
}

fn pod(name: &str, scheduling_gate: bool) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "sleep", "image": IMAGE, "command": ["/bin/busybox", "sleep", "3600"],
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
            }],
        },
    });
    if scheduling_gate {
        // Stored, never started: the figure is the API server's.
        pod["spec"]["schedulingGates"] = json!([{"name": "keelstone.local/bench"}]);
    }
    pod
}

async fn creates(endpoint: &Endpoint, namespace: &str, pods: u32) -> Outcome<()> {
    let next = Arc::new(AtomicU32::new(0));
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (endpoint, next) = (endpoint.clone(), next.clone());
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        clients.spawn(async move {
            let mut connection = Connection::new(&endpoint);
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= pods {
                    return Ok(times);
                }
                let sent = Instant::now();
                let body = pod(&format!("stored-{number:05}"), true);
                connection.send(Method::POST, &path, Some(&body), REQUEST_MAX).await.success()?;
                times.push(sent.elapsed());
            }
        });
    }
    let mut times: Vec<Duration> = Vec::new();
    while let Some(ended) = clients.join_next().await {
        let own: Result<Vec<Duration>, String> = ended.map_err(|e| Failure::impossible(e.to_string()))?;
        times.extend(own.map_err(Failure::Broken)?);
    }
    let rate = f64::from(pods) / begun.elapsed().as_secs_f64();
    let middle = median(&mut times);
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    println!(
        "api: {rate:.0} pod creates/s with {CLIENTS} clients ({pods} pods; median {}, p99 {})",
        milliseconds(middle),
        milliseconds(p99)
    );
    Ok(())
}

async fn lists(connection: &mut Connection, namespace: &str, pods: u32) -> Outcome<()> {
    for (what, query) in [("consistent", ""), ("from memory", "?resourceVersion=0")] {
        let path = format!("/api/v1/namespaces/{namespace}/pods{query}");
        let mut times = Vec::new();
        let mut count = 0;
        for _ in 0..LISTS {
            let sent = Instant::now();
            let list = connection.get(&path, SETTLE_MAX).await.success().map_err(Failure::Broken)?;
            times.push(sent.elapsed());
            count = list["items"].as_array().map_or(0, Vec::len);
        }
        println!("api: a list of {count} pods (of {pods} stored), {what}: median {}", milliseconds(median(&mut times)));
    }
    Ok(())
}

/// Creates pods one after another and watches for each to be Running and ready.
async fn create_to_running(endpoint: &Endpoint, namespace: &str) -> Outcome<()> {
    let collection = format!("/api/v1/namespaces/{namespace}/pods");
    let mut watch = endpoint.lines(&format!("{collection}?watch=true"), REQUEST_MAX).await.map_err(Failure::Broken)?;
    let mut connection = Connection::new(endpoint);
    let mut times = Vec::new();
    for number in 0..RUNNING_PODS {
        let name = format!("running-{number}");
        let sent = Instant::now();
        let made = connection.send(Method::POST, &collection, Some(&pod(&name, false)), REQUEST_MAX).await;
        made.success().map_err(Failure::Broken)?;
        let runs = async {
            while let Some(event) = watch.next().await {
                let object = &event["object"];
                if object["metadata"]["name"] == name.as_str() && object["status"]["phase"] == "Running" {
                    return Ok(());
                }
            }
            Err(Failure::broken("the watch of the pods ended"))
        };
        let ended = tokio::time::timeout(SETTLE_MAX, runs).await;
        ended.map_err(|_| Failure::broken(format!("{name} is not Running within {SETTLE_MAX:?}")))??;
        times.push(sent.elapsed());
        connection
            .send(Method::DELETE, &format!("{collection}/{name}"), None, REQUEST_MAX)
            .await
            .success()
            .map_err(Failure::Broken)?;
    }
    let max = times.iter().max().copied().unwrap_or_default();
    println!(
        "api: pod create to Running, one after another: median {}, max {}",
        milliseconds(median(&mut times)),
        milliseconds(max)
    );
    Ok(())
}
