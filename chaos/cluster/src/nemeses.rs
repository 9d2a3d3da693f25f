//! Faults of workers. The masters' are the store's: their names are the same.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use keelstone_chaos_bed::{between, Outcome};
use keelstone_chaos_store::{
    nemeses::{all as of_members, dice, Harm, Nemesis},
    schedule::Fault,
    Cluster,
};
use rand::Rng;

use crate::WholeTarget;

/// Faults after which a node must be NotReady in time.
pub const WORKER_LOSSES: [&str; 2] = ["worker-loss", "worker-partition"];
/// Faults that touch a worker's processes or its network.
pub const WORKER_FAULTS: [&str; 4] = ["worker-loss", "worker-partition", "agent-kill", "containerd-kill"];

/// While such a fault lasts, no master is there for the workers.
pub fn takes_all_masters(nemesis: &str) -> bool {
    ["kill-all", "pause-all", "power-loss-all", "workers-cut-off"].contains(&nemesis)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Agent, containers and runtime end at once.
    Loss,
    /// The worker does not reach any master, nor they it.
    Partition,
    /// The agent alone; its containers run on.
    Agent,
    /// containerd alone; its containers run on.
    Containerd,
    /// No worker reaches a master.
    CutOff,
}

#[derive(Debug)]
struct OfWorkers {
    kind: Kind,
    /// The same as the cluster's, for what only whole machines can.
    target: Option<Arc<WholeTarget>>,
}

/// All faults: those of the masters and those of the workers of `target`.
pub fn all(target: Option<&Arc<WholeTarget>>) -> Vec<Arc<dyn Nemesis>> {
    let mut all = of_members();
    for kind in [Kind::Loss, Kind::Partition, Kind::Agent, Kind::Containerd, Kind::CutOff] {
        all.push(Arc::new(OfWorkers { kind, target: target.cloned() }));
    }
    all
}

fn workers(cluster: &Cluster) -> Vec<String> {
    let members = cluster.names();
    cluster.bed.hosts.iter().map(|h| h.name.clone()).filter(|n| !members.contains(n)).collect()
}

#[async_trait]
impl Nemesis for OfWorkers {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Loss => "worker-loss",
            Kind::Partition => "worker-partition",
            Kind::Agent => "agent-kill",
            Kind::Containerd => "containerd-kill",
            Kind::CutOff => "workers-cut-off",
        }
    }

    fn possible(&self, cluster: &Cluster) -> Result<(), String> {
        if workers(cluster).is_empty() {
            return Err("there are no workers".into());
        }
        match &self.target {
            Some(target) if self.kind == Kind::Containerd && target.runtime() != "cri" => {
                Err("pods do not run in containerd (--runtime cri)".into())
            }
            _ => Ok(()),
        }
    }

    /// Until a node is lost and its pods run elsewhere takes longer than other faults, and nothing may disturb it.
    fn alone(&self) -> bool {
        WORKER_LOSSES.contains(&self.name())
    }

    fn least(&self) -> Duration {
        let loss_s = self.target.as_ref().map_or(0, |t| t.timings().loss_s());
        Duration::from_secs(if self.alone() { loss_s } else { 0 })
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let all = workers(cluster);
        let name = all[dice(fault).random_range(0..all.len())].clone();
        let host = cluster.host(&name)?;
        let told = match (self.kind, &self.target) {
            (Kind::Loss, Some(target)) => {
                target.lose(host).await?;
                format!("{name} is lost with all that ran on it")
            }
            (Kind::Containerd, Some(target)) => {
                target.kill_containerd(host)?;
                format!("SIGKILL to the containerd of {name}")
            }
            (Kind::Partition, _) => {
                cluster.bed.firewall().cut(self.name(), between(&[host.address], &cluster.addresses()))?;
                format!("{name} reaches no master")
            }
            (Kind::CutOff, _) => {
                let addresses: Vec<_> = all.iter().filter_map(|n| cluster.bed.host(n)).map(|h| h.address).collect();
                cluster.bed.firewall().cut(self.name(), between(&addresses, &cluster.addresses()))?;
                "no worker reaches a master".into()
            }
            (Kind::Agent | Kind::Loss | Kind::Containerd, _) => {
                host.kill().await?;
                format!("SIGKILL to the agent of {name}")
            }
        };
        Ok(Harm::new(vec![name], told))
    }

    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        match (self.kind, &self.target) {
            (Kind::Partition | Kind::CutOff, _) => cluster.bed.firewall().mend(self.name()),
            (Kind::Containerd, Some(target)) => {
                harm.hosts.iter().try_for_each(|name| target.start_containerd(cluster.host(name)?))
            }
            _ => harm.hosts.iter().try_for_each(|name| cluster.start(name)),
        }
    }
}
