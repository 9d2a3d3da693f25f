//! A network that loses some packets.

use async_trait::async_trait;
use keelstone_chaos_bed::{Outcome, Pair};
use rand::Rng;

use super::{dice, Harm, Nemesis};
use crate::{cluster::Cluster, schedule::Fault};

#[derive(Debug)]
pub struct Loss;

#[async_trait]
impl Nemesis for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let percent = dice(fault).random_range(5..40);
        let all = cluster.bed.addresses();
        let pairs: Vec<Pair> =
            all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b).collect();
        cluster.bed.firewall().lose(self.name(), percent, pairs)?;
        Ok(Harm::new(Vec::new(), format!("{percent} of 100 packets between members are lost")))
    }

    async fn stop(&self, cluster: &Cluster, _harm: &Harm) -> Outcome<()> {
        cluster.bed.firewall().mend(self.name())
    }
}
