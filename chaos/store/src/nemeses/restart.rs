//! Every member is stopped in order and started again, one after the other; as another build in a rolling upgrade.

use async_trait::async_trait;
use keelstone_chaos_bed::Outcome;

use super::{Harm, Nemesis};
use crate::{cluster::Cluster, constants::READY_TIME_MAX, schedule::Fault};

#[derive(Debug)]
pub struct RollingRestart {
    pub upgrade: bool,
}

#[async_trait]
impl Nemesis for RollingRestart {
    fn name(&self) -> &'static str {
        match self.upgrade {
            true => "rolling-upgrade",
            false => "rolling-restart",
        }
    }

    fn possible(&self, cluster: &Cluster) -> Result<(), String> {
        match self.upgrade && cluster.target().other_build().is_none() {
            true => Err("no other build (--other names one)".into()),
            false => Ok(()),
        }
    }

    /// It waits for each member, so it acts alone.
    fn alone(&self) -> bool {
        true
    }

    async fn start(&self, cluster: &Cluster, _fault: &Fault) -> Outcome<Harm> {
        if let (true, Some(other)) = (self.upgrade, cluster.target().other_build()) {
            cluster.set_target(other);
        }
        let hosts = cluster.names();
        for host in &hosts {
            cluster.host(host)?.stop().await?;
            cluster.start(host)?;
            cluster.wait_ready(READY_TIME_MAX).await?;
        }
        let how = if self.upgrade { ", as the other build" } else { "" };
        Ok(Harm::new(hosts.clone(), format!("{} restarted in order{how}", hosts.join(", "))))
    }

    async fn stop(&self, _cluster: &Cluster, _harm: &Harm) -> Outcome<()> {
        Ok(())
    }
}
