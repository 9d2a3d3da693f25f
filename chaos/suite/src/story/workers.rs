use std::time::{Duration, Instant};

use super::{condition, items, pods::Pod, Story};
use crate::{
    constants::SETTLE_MAX,
    failure::{Failure, Outcome},
    report::eventually,
};

/// How a worker is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// kill -9 of the agent; its containers run on.
    AgentAlone,
    /// The agent, the container runtime and all containers.
    Everything,
}

impl Story {
    pub async fn a_worker_is_lost(&mut self, loss: Loss) -> Outcome<()> {
        let replicas = self.pods().await.map_err(Failure::Broken)?.iter().filter(|p| !p.leaving).count();
        let (before, _) = self.running_pods(replicas).await?;
        let worker = before[0].node.clone();
        let lost: Vec<Pod> = before.iter().filter(|p| p.node == worker).cloned().collect();
        let what = if loss == Loss::AgentAlone { "its agent alone" } else { "agent, runtime and containers" };
        self.report.chapter(&format!("Worker {worker} is lost: {what}"));
        let processes = self.processes_of(&lost)?;
        self.report.does(format!("kill -9 on {worker}, where {} of {replicas} pods run", lost.len()));
        let killed = Instant::now();
        self.cluster.kill(&worker, if loss == Loss::Everything { &["--containers"] } else { &[] }).await?;
        if loss == Loss::Everything && self.containers_are_real() {
            if self.has_processes(&lost) {
                return Err(Failure::broken("its containers still run"));
            }
            self.report.sees("all its containers are gone");
        }
        self.node_not_ready(&worker, killed).await?;
        let (after, _) = self.running_pods_where(replicas, |p| p.node != worker).await?;
        let waited = killed.elapsed();
        self.run(&["get", "pods", "-o", "wide"]).await?;
        if waited < self.cluster.grace + self.cluster.toleration - Duration::from_secs(1) {
            return Err(Failure::broken(format!("pods were evicted too early: after {waited:?}")));
        }
        self.report.sees(format!("{:.1} s after the kill {replicas} pods run elsewhere", waited.as_secs_f64()));
        self.endpoints_are(&after).await?;
        if loss == Loss::AgentAlone && self.containers_are_real() {
            if self.processes_of(&lost)? != processes {
                return Err(Failure::broken("the containers of the worker without agent did not run on"));
            }
            self.report
                .sees(format!("the {} processes on {worker} run on: no one is there to stop them", processes.len()));
        }
        self.worker_returns(&worker, &lost).await?;
        let (now, _) = self.running_pods(replicas).await?;
        if now.iter().any(|p| !after.iter().any(|a| a.name == p.name)) {
            return Err(Failure::broken("pods were replaced once more when the worker returned"));
        }
        Ok(())
    }

    async fn node_not_ready(&self, worker: &str, killed: Instant) -> Outcome<()> {
        eventually("the node becomes NotReady", SETTLE_MAX, || async {
            let node = self.json(&["get", "node", worker]).await?;
            let ready = condition(&node, "Ready");
            let tainted = node["spec"]["taints"].as_array().into_iter().flatten().any(|t| t["effect"] == "NoExecute");
            (ready != "True" && tainted).then_some(()).ok_or(format!("Ready={ready}, tainted: {tainted}"))
        })
        .await?;
        let after = killed.elapsed();
        self.run(&["get", "nodes"]).await?;
        // The last heartbeat was up to a period before the kill.
        if after + Duration::from_secs(4) < self.cluster.grace {
            return Err(Failure::broken(format!(
                "NotReady after {after:?}, before the grace of {:?}",
                self.cluster.grace
            )));
        }
        self.report.sees(format!("{worker} is NotReady and tainted {:.1} s after the kill", after.as_secs_f64()));
        Ok(())
    }

    async fn worker_returns(&self, worker: &str, lost: &[Pod]) -> Outcome<()> {
        self.report.does(format!("keelstone up: {worker} returns"));
        self.cluster.up().await?;
        let ((), took) = eventually("what should not run there is stopped", SETTLE_MAX, || async {
            let list = self.json(&["get", "pods"]).await?;
            let left = items(&list).filter_map(|p| p["metadata"]["name"].as_str());
            let left = left.filter(|name| lost.iter().any(|l| l.name == *name)).count();
            let runs = self.has_processes(lost);
            (left == 0 && !runs).then_some(()).ok_or(format!("{left} pods left; processes there: {runs}"))
        })
        .await?;
        self.all_nodes_ready().await?;
        self.report.sees(format!(
            "{worker} is Ready; its evicted pods are stopped and gone after {:.1} s",
            took.as_secs_f64()
        ));
        Ok(())
    }
}
