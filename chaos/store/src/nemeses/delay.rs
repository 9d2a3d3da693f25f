//! Slow cables: late frames, and few bytes a second.

use std::time::Duration;

use async_trait::async_trait;
use keelstone_chaos_bed::Outcome;
use rand::Rng;

use super::{dice, resolve, Harm, Nemesis};
use crate::{cluster::Cluster, schedule::Fault};

#[derive(Debug)]
pub struct Delay;

#[async_trait]
impl Nemesis for Delay {
    fn name(&self) -> &'static str {
        "delay"
    }

    fn possible(&self, cluster: &Cluster) -> Result<(), String> {
        match cluster.bed.hosts.iter().all(|h| h.delay.is_some()) {
            true => Ok(()),
            false => Err("the hosts have no slow cables (--slow-links; needs /dev/net/tun)".into()),
        }
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let delay = Duration::from_millis(dice(fault).random_range(20..400));
        let hosts = resolve(cluster, fault.victim).await;
        for host in &hosts {
            if let Some(cable) = &cluster.host(host)?.delay {
                cable.set(delay);
            }
        }
        Ok(Harm::new(hosts.clone(), format!("{delay:?} each way on the cable of {}", hosts.join(", "))))
    }

    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        for host in &harm.hosts {
            if let Some(cable) = &cluster.host(host)?.delay {
                cable.set(Duration::ZERO);
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct Rate;

#[async_trait]
impl Nemesis for Rate {
    fn name(&self) -> &'static str {
        "rate"
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let kbit = dice(fault).random_range(100..1_000).to_string() + "kbit";
        let hosts = resolve(cluster, fault.victim).await;
        for host in &hosts {
            let queue = ["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &kbit];
            cluster.host(host)?.inside(&[&queue[..], &["burst", "8kb", "latency", "400ms"]].concat())?;
        }
        Ok(Harm::new(hosts.clone(), format!("{} sends {kbit} a second at most", hosts.join(", "))))
    }

    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()> {
        for host in &harm.hosts {
            cluster.host(host)?.inside(&["tc", "qdisc", "del", "dev", "eth0", "root"])?;
        }
        Ok(())
    }
}
