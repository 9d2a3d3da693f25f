//! Loss of power: what was not synced is gone. The filesystem is shut down without a flush of its journal, and only then
//! the process is killed.

use async_trait::async_trait;
use keelstone_chaos_bed::Outcome;

use super::{disk_full::own_disks, Count, Harm, Nemesis};
use crate::{cluster::Cluster, schedule::Fault};

#[derive(Debug)]
pub struct PowerLoss {
    pub count: Count,
}

#[async_trait]
impl Nemesis for PowerLoss {
    fn name(&self) -> &'static str {
        match self.count {
            Count::One => "power-loss",
            Count::Two => "power-loss-2",
            Count::All => "power-loss-all",
        }
    }

    fn possible(&self, cluster: &Cluster) -> Result<(), String> {
        own_disks(cluster)
    }

    fn takes_filesystem(&self) -> bool {
        true
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let hosts = self.count.of(cluster, fault.victim).await;
        // All disks first: the power goes everywhere at one moment.
        for name in &hosts {
            if let Some(disk) = &cluster.host(name)?.disk {
                disk.power_off()?;
            }
        }
        for name in &hosts {
            cluster.host(name)?.kill().await?;
        }
        Ok(Harm::new(hosts.clone(), format!("{} lost power, and what was not synced", hosts.join(", "))))
    }

    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        for name in &harm.hosts {
            if let Some(disk) = &cluster.host(name)?.disk {
                disk.power_on()?;
            }
            cluster.start(name)?;
        }
        Ok(())
    }
}
