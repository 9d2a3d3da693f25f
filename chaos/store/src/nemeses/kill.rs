//! SIGKILL, and a start again.

use async_trait::async_trait;
use keelstone_chaos_bed::Outcome;

use super::{Count, Harm, Nemesis};
use crate::{cluster::Cluster, schedule::Fault};

#[derive(Debug)]
pub struct Kill {
    pub count: Count,
}

#[async_trait]
impl Nemesis for Kill {
    fn name(&self) -> &'static str {
        match self.count {
            Count::One => "kill",
            Count::Two => "kill-2",
            Count::All => "kill-all",
        }
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let hosts = self.count.of(cluster, fault.victim).await;
        for host in &hosts {
            cluster.host(host)?.kill().await?;
        }
        Ok(Harm::new(hosts.clone(), format!("SIGKILL to {}", hosts.join(", "))))
    }

    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        harm.hosts.iter().try_for_each(|host| cluster.start(host))
    }
}
