//! SIGKILL, and a start again.

use async_trait::async_trait;
use keelstone_chaos_bed::Outcome;

use super::{resolve, Harm, Nemesis};
use crate::{
    cluster::Cluster,
    schedule::{Fault, Victim},
};

#[derive(Debug)]
pub struct Kill {
    pub everyone: bool,
}

#[async_trait]
impl Nemesis for Kill {
    fn name(&self) -> &'static str {
        match self.everyone {
            true => "kill-all",
            false => "kill",
        }
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let victim = if self.everyone { Victim::Everyone } else { fault.victim };
        let hosts = resolve(cluster, victim).await;
        for host in &hosts {
            cluster.host(host)?.kill().await?;
        }
        Ok(Harm::new(hosts.clone(), format!("SIGKILL to {}", hosts.join(", "))))
    }

    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        harm.hosts.iter().try_for_each(|host| cluster.start(host))
    }
}
