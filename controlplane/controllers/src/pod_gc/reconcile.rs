use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, Pod};
use keelstone_client::{CancellationToken, Client, ClientResult, DeleteOptions, Object, Store};
use keelstone_runtime::SharedInformers;
use tokio::time::Instant;

use super::plan;
use crate::common::{clock, pods};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodGcConfig {
    pub period: Duration,
    /// A node must have been missing for this long before its pods are removed.
    pub quarantine: Duration,
    /// Finished pods above this number are removed; 0 keeps all.
    pub finished_max: usize,
}

impl Default for PodGcConfig {
    fn default() -> Self {
        Self { period: Duration::from_secs(20), quarantine: Duration::from_secs(40), finished_max: 12_500 }
    }
}

/// Removes pods that nobody else will.
pub struct PodGc {
    client: Client,
    pods: Store<Pod>,
    nodes: Store<Node>,
    config: PodGcConfig,
    missing: BTreeMap<String, Instant>,
}

impl PodGc {
    pub fn new(client: &Client, informers: &SharedInformers, config: PodGcConfig) -> Self {
        let client = client.named("pod-garbage-collector");
        Self { client, pods: informers.store(), nodes: informers.store(), config, missing: BTreeMap::new() }
    }

    /// Runs until `stop`; dropping the future stops at once.
    pub async fn run(mut self, stop: &CancellationToken) {
        futures::join!(self.pods.wait_synced(), self.nodes.wait_synced());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.config.period) => self.collect().await,
            }
        }
    }

    async fn collect(&mut self) {
        let all = self.pods.list();
        let gone = self.gone(&all).await;
        let finished_max = if self.config.finished_max == 0 { usize::MAX } else { self.config.finished_max };
        let plan = plan::plan(&all, &gone, finished_max);
        for pod in plan.finished.iter().chain(&plan.orphaned).chain(&plan.unscheduled) {
            if let Err(error) = self.remove(pod).await {
                tracing::info!(pod = pod.key(), %error, "could not remove a pod");
            }
        }
    }

    /// The nodes that have been missing for the quarantine, and are missing when read past the cache.
    async fn gone(&mut self, all: &[Arc<Pod>]) -> BTreeSet<String> {
        let present: BTreeSet<String> = self.nodes.list().iter().map(|node| node.name().to_owned()).collect();
        let missing = plan::missing_nodes(all, &present);
        let now = self.client.env().now();
        self.missing.retain(|name, _| missing.contains(name));
        let mut gone = BTreeSet::new();
        for name in missing {
            let since = *self.missing.entry(name.clone()).or_insert(now);
            if now < since + self.config.quarantine {
                continue;
            }
            match self.client.resource::<Node>().get_opt(&name).await {
                Ok(None) => drop(gone.insert(name)),
                Ok(Some(_)) => {}
                Err(error) => tracing::info!(node = name, %error, "could not look for the node"),
            }
        }
        gone
    }

    async fn remove(&self, pod: &Arc<Pod>) -> ClientResult<()> {
        let api = self.client.namespaced::<Pod>(pod.namespace());
        if !pods::node_name(pod).is_empty() {
            if let Some(failed) = plan::failed(pod, clock::now(self.client.env())) {
                match api.update_status(&failed).await {
                    Err(error) if error.is_not_found() => return Ok(()),
                    marked => drop(marked?),
                }
            }
        }
        match api.delete(pod.name(), &DeleteOptions::uid(pod.uid()).grace_period_s(0)).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}
