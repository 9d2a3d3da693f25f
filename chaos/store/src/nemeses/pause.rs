//! SIGSTOP and SIGCONT: a member that is silent and then goes on as if no time had passed.

use async_trait::async_trait;
use keelstone_chaos_bed::Outcome;
use nix::sys::signal::Signal;

use super::{Count, Harm, Nemesis};
use crate::{cluster::Cluster, schedule::Fault};

#[derive(Debug)]
pub struct Pause {
    pub count: Count,
}

#[async_trait]
impl Nemesis for Pause {
    fn name(&self) -> &'static str {
        match self.count {
            Count::One => "pause",
            Count::Two => "pause-2",
            Count::All => "pause-all",
        }
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let hosts = self.count.of(cluster, fault.victim).await;
        for host in &hosts {
            cluster.host(host)?.signal(Signal::SIGSTOP)?;
        }
        Ok(Harm::new(hosts.clone(), format!("froze {}", hosts.join(", "))))
    }

    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        for host in &harm.hosts {
            cluster.host(host)?.signal(Signal::SIGCONT)?;
        }
        Ok(())
    }
}
