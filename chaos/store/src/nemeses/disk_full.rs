//! A full disk. A member may refuse, stop or end; once there is room again and it is started, nothing acknowledged is
//! missing.

use async_trait::async_trait;
use keelstone_chaos_bed::Outcome;

use super::{resolve, Harm, Nemesis};
use crate::{cluster::Cluster, schedule::Fault};

#[derive(Debug)]
pub struct DiskFull;

#[async_trait]
impl Nemesis for DiskFull {
    fn name(&self) -> &'static str {
        "disk-full"
    }

    fn possible(&self, cluster: &Cluster) -> Result<(), String> {
        own_disks(cluster)
    }

    fn takes_filesystem(&self) -> bool {
        true
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let hosts = resolve(cluster, fault.victim).await;
        for host in &hosts {
            if let Some(disk) = &cluster.host(host)?.disk {
                disk.fill()?;
            }
        }
        Ok(Harm::new(hosts.clone(), format!("the disk of {} is full", hosts.join(", "))))
    }

    /// Room is made and the process is started again, as an operator would: a store may have given up on its disk.
    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        for name in &harm.hosts {
            let host = cluster.host(name)?;
            if let Some(disk) = &host.disk {
                disk.free()?;
            }
            host.stop().await?;
            cluster.start(name)?;
        }
        Ok(())
    }
}

pub fn own_disks(cluster: &Cluster) -> Result<(), String> {
    match cluster.members().iter().all(|h| h.disk.is_some()) {
        true => Ok(()),
        false => Err("the hosts have no filesystems of their own (--own-disks)".into()),
    }
}
