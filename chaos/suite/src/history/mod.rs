//! The story with recorded clients beside it, and a verdict over what they recorded.

mod log;
mod mirror;
mod registers;
mod verdict;

use std::{path::Path, sync::Arc, time::Instant};

use crate::{
    cluster::Cluster,
    failure::{Failure, Outcome},
    http_client::{Connection, Endpoint},
    own_cluster::with_cluster,
    story::{Length, Story},
};
use mirror::Mirror;
use registers::Registers;

/// The ConfigMaps of the recorded clients live here.
const NAMESPACE: &str = "registers";

/// Starts a cluster, tells the story while clients record, judges.
pub async fn run(keelstone: &Path, runtime: &str, history: Option<&Path>) -> Outcome<()> {
    let begun = Instant::now();
    with_cluster(keelstone, runtime, |cluster| recorded(cluster, history)).await?;
    println!("held: the story and the histories, after {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn recorded(cluster: Cluster, file: Option<&Path>) -> Outcome<()> {
    let endpoint = Endpoint::new(&cluster.balancer()?)?;
    make_namespace(&endpoint).await?;
    let clock = Arc::new(Instant::now());
    let mut mirrors = vec![Mirror::start("balancer", &endpoint, NAMESPACE)];
    for master in &cluster.masters {
        mirrors.push(Mirror::start(master, &Endpoint::new(&cluster.master(master)?)?, NAMESPACE));
    }
    for mirror in &mirrors {
        mirror.reached(1).await?;
    }
    let registers = Registers::start(&endpoint, NAMESPACE, &clock);
    let told = Story::new(cluster.clone(), Length::Compact)?.tell().await;
    let history = registers.stop().await;
    if let Some(file) = file {
        log::write(file, &history)?;
    }
    told?;
    let mut endpoints = Vec::new();
    for master in &cluster.masters {
        endpoints.push(Endpoint::new(&cluster.master(master)?)?);
    }
    let mut observed = Vec::new();
    let last = verdict::settle(&endpoint, NAMESPACE).await?;
    for mirror in mirrors {
        observed.push(mirror.reached(last).await?);
    }
    verdict::judge(&history, &observed, &endpoints, NAMESPACE).await
}

async fn make_namespace(endpoint: &Endpoint) -> Outcome<()> {
    let body = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let sent = Connection::new(endpoint)
        .send(http::Method::POST, "/api/v1/namespaces", Some(&body), crate::constants::REQUEST_MAX)
        .await;
    sent.success().map(|_| ()).map_err(|e| Failure::broken(format!("namespace {NAMESPACE}: {e}")))
}
