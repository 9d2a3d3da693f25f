//! The story of the first issue, told against a running cluster: one file a chapter.

mod frozen;
mod manifests;
mod masters;
mod pods;
mod quorum;
mod rollout;
mod workers;
mod workload;

use std::{path::PathBuf, time::Duration};

use serde_json::Value;

use crate::{
    cluster::Cluster,
    constants::SETTLE_MAX,
    failure::{Failure, Outcome},
    http_client::Endpoint,
    kubectl::{self, Kubectl, Said},
    report::{eventually, Report},
};

/// How much of the story is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// All, as `make demo` shows it.
    Full,
    /// The failures alone, for CI.
    Compact,
}

/// What all chapters work with.
pub struct Story {
    pub cluster: Cluster,
    pub kubectl: Kubectl,
    /// Everything is made in this namespace; its name marks this run.
    pub namespace: String,
    pub report: Report,
    pub length: Length,
    /// Kept until the story ends.
    _scratch: tempfile::TempDir,
}

impl Story {
    pub fn new(cluster: Cluster, length: Length) -> Outcome<Self> {
        let program = kubectl::find_newest()?;
        let scratch = tempfile::tempdir()?;
        let namespace = format!("story-{}", std::process::id());
        let kubeconfig: PathBuf = scratch.path().join("kubeconfig");
        std::fs::write(&kubeconfig, cluster.kubeconfig()?.variant(&namespace, false))?;
        println!("kubectl: {} ({})", program.path.display(), program.version);
        println!("cluster: {} ({} runtime)", cluster.dir.display(), cluster.runtime);
        let kubectl = Kubectl { program: program.path, kubeconfig, cache: scratch.path().join("cache") };
        Ok(Self { cluster, kubectl, namespace, report: Report::new(), length, _scratch: scratch })
    }

    /// Tells the story; what it made is deleted, whatever happens.
    pub async fn tell(&mut self) -> Outcome<()> {
        let told = self.chapters().await;
        if told.is_err() {
            // What was taken away must not stay away.
            let _ = self.cluster.up().await;
        }
        let cleaned = self.clean().await;
        told.and(cleaned)
    }

    async fn chapters(&mut self) -> Outcome<()> {
        self.nodes_are_ready().await?;
        self.a_deployment_and_a_service().await?;
        if self.length == Length::Full {
            self.logs_scale_and_labels().await?;
            self.rollouts().await?;
        }
        self.the_leading_master_is_killed().await?;
        self.the_leading_master_is_frozen().await?;
        self.two_masters_are_away().await?;
        self.a_worker_is_lost(workers::Loss::AgentAlone).await?;
        self.a_worker_is_lost(workers::Loss::Everything).await
    }

    async fn clean(&mut self) -> Outcome<()> {
        self.report.chapter("Everything that was made is deleted");
        let namespace = self.namespace.clone();
        self.run(&["delete", "namespace", &namespace, "--wait=false"]).await?;
        let this = &*self;
        eventually("the namespace goes", SETTLE_MAX, || async {
            let said = this.quiet(&["get", "namespace", &this.namespace]).await;
            (said.code == 1 && said.err.contains("NotFound")).then_some(()).ok_or(said.all())
        })
        .await?;
        self.report.sees(format!("namespace {namespace} and all in it are gone"));
        Ok(())
    }

    /// Runs kubectl, shows it, and insists on success.
    pub async fn run(&self, arguments: &[&str]) -> Outcome<Said> {
        self.run_with(arguments, None).await
    }

    pub async fn run_with(&self, arguments: &[&str], input: Option<&str>) -> Outcome<Said> {
        self.report.command(arguments);
        let said = self.kubectl.run_with(arguments, input, SETTLE_MAX).await;
        self.report.output(&said);
        if said.ok() {
            return Ok(said);
        }
        Err(Failure::broken(format!("kubectl {} ended with {}: {}", arguments.join(" "), said.code, said.err.trim())))
    }

    /// Runs kubectl, shows it, and insists that its output holds `expected`.
    pub async fn shows(&self, arguments: &[&str], expected: &str) -> Outcome<Said> {
        let said = self.run(arguments).await?;
        if said.out.contains(expected) {
            return Ok(said);
        }
        Err(Failure::broken(format!("kubectl {} does not show {expected:?}", arguments.join(" "))))
    }

    /// Runs kubectl without showing it.
    pub async fn quiet(&self, arguments: &[&str]) -> Said {
        self.kubectl.run(arguments).await
    }

    /// An object or a list as JSON.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let said = self.quiet(&[arguments, &["-o", "json"]].concat()).await;
        if !said.ok() {
            return Err(said.err.trim().to_owned());
        }
        serde_json::from_str(&said.out).map_err(|e| e.to_string())
    }

    pub fn endpoint(&self) -> Outcome<Endpoint> {
        Endpoint::new(&self.cluster.balancer()?)
    }

    async fn nodes_are_ready(&mut self) -> Outcome<()> {
        self.report.chapter("The cluster is there");
        self.run(&["get", "nodes", "-o", "wide"]).await?;
        self.all_nodes_ready().await?;
        self.report.sees(format!("{} nodes are Ready", self.cluster.workers.len()));
        if self.length == Length::Full {
            self.run(&["version"]).await?;
            self.run(&["cluster-info"]).await?;
        }
        Ok(())
    }

    pub async fn all_nodes_ready(&self) -> Outcome<Duration> {
        let ready = eventually("all nodes are Ready", SETTLE_MAX, || async {
            let list = self.json(&["get", "nodes"]).await?;
            let ready = items(&list).filter(|node| node_ready(node)).count();
            (ready == self.cluster.workers.len()).then_some(()).ok_or(format!("{ready} are"))
        });
        Ok(ready.await?.1)
    }
}

pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

pub fn node_ready(node: &Value) -> bool {
    condition(node, "Ready") == "True"
}

/// The status of a condition; empty if there is none.
pub fn condition<'a>(object: &'a Value, name: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|c| c["type"] == name);
    found.and_then(|c| c["status"].as_str()).unwrap_or_default()
}
