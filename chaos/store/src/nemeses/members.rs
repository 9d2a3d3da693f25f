//! A member leaves for good, loses its disk, and joins again as a new one.

use async_trait::async_trait;
use keelstone_chaos_bed::{Failure, Outcome};

use super::{resolve, Harm, Nemesis};
use crate::{
    cluster::Cluster,
    constants::{POLL, READY_TIME_MAX},
    etcd_client::EtcdClient,
    schedule::Fault,
    target::peer_url,
};

#[derive(Debug)]
pub struct Members;

/// Asks the other members until one has done it.
async fn another(cluster: &Cluster, name: &str) -> Outcome<EtcdClient> {
    let leader = cluster.leader().await.filter(|l| l != name);
    let other = leader.or_else(|| cluster.names().into_iter().find(|n| n != name));
    cluster.observer_of(&other.unwrap_or_default())
}

#[async_trait]
impl Nemesis for Members {
    fn name(&self) -> &'static str {
        "members"
    }

    fn possible(&self, cluster: &Cluster) -> Result<(), String> {
        cluster.target().members_change()
    }

    fn alone(&self) -> bool {
        true
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let hosts = resolve(cluster, fault.victim).await;
        let name = &hosts[0];
        let Some(id) = cluster.status(name).await.and_then(|s| s.header).map(|h| h.member_id) else {
            return Ok(Harm::new(Vec::new(), format!("{name} does not tell its id")));
        };
        let host = cluster.host(name)?;
        host.kill().await?;
        let mut last = String::new();
        let begun = std::time::Instant::now();
        while begun.elapsed() < READY_TIME_MAX {
            let reply = another(cluster, name).await?.member_remove(id).await;
            match reply.error() {
                Some(error) if !error.contains("member not found") => error.clone_into(&mut last),
                _ => {
                    host.wipe()?;
                    return Ok(Harm::new(hosts.clone(), format!("{name} was removed and lost its disk")));
                }
            }
            tokio::time::sleep(POLL).await;
        }
        Err(Failure::broken(format!("{name} cannot be removed: {last}")))
    }

    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        for name in &harm.hosts {
            let host = cluster.host(name)?;
            let begun = std::time::Instant::now();
            loop {
                let reply = another(cluster, name).await?.member_add(peer_url(host)).await;
                match reply.error() {
                    Some(error) if !error.contains("already exist") && begun.elapsed() < READY_TIME_MAX => {}
                    Some(error) if !error.contains("already exist") => {
                        return Err(Failure::broken(format!("{name} cannot be added: {error}")));
                    }
                    _ => break,
                }
                tokio::time::sleep(POLL).await;
            }
            host.start(&cluster.target().launch(host, &cluster.bed.hosts, false))?;
        }
        Ok(())
    }
}
