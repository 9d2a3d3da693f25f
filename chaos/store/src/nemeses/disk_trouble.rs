//! Disks that are slow to sync, or fail to.

use std::time::Duration;

use async_trait::async_trait;
use keelstone_chaos_bed::Outcome;
use rand::Rng;

use super::{dice, resolve, Harm, Nemesis};
use crate::{cluster::Cluster, schedule::Fault};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    SlowSync,
    /// EIO for syncs.
    SyncFails,
    /// EIO for syncs and writes.
    WriteFails,
}

#[derive(Debug)]
pub struct DiskTrouble {
    pub trouble: Trouble,
}

#[async_trait]
impl Nemesis for DiskTrouble {
    fn name(&self) -> &'static str {
        match self.trouble {
            Trouble::SlowSync => "slow-sync",
            Trouble::SyncFails => "sync-eio",
            Trouble::WriteFails => "write-eio",
        }
    }

    fn possible(&self, cluster: &Cluster) -> Result<(), String> {
        match cluster.members().iter().all(|h| h.faulty.is_some()) {
            true => Ok(()),
            false => Err("the hosts have no faulty disks (--faulty-disks; needs /dev/fuse)".into()),
        }
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let hosts = resolve(cluster, fault.victim).await;
        let delay = Duration::from_millis(dice(fault).random_range(50..1_000));
        for name in &hosts {
            let Some(faulty) = &cluster.host(name)?.faulty else { continue };
            match self.trouble {
                Trouble::SlowSync => faulty.trouble.slow_syncs(delay),
                Trouble::SyncFails => faulty.trouble.fail(true, false),
                Trouble::WriteFails => faulty.trouble.fail(true, true),
            }
        }
        let told = match self.trouble {
            Trouble::SlowSync => format!("every sync of {} takes {delay:?} more", hosts.join(", ")),
            Trouble::SyncFails => format!("syncs of {} fail", hosts.join(", ")),
            Trouble::WriteFails => format!("writes and syncs of {} fail", hosts.join(", ")),
        };
        Ok(Harm::new(hosts, told))
    }

    /// After an error the process is started again, as an operator would: a store must not trust that disk any more.
    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        for name in &harm.hosts {
            let host = cluster.host(name)?;
            if let Some(faulty) = &host.faulty {
                faulty.trouble.over();
            }
            if self.trouble != Trouble::SlowSync {
                host.stop().await?;
                cluster.start(name)?;
            }
        }
        Ok(())
    }
}
