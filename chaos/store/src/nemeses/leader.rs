//! The leader is asked to hand over, again and again.

use std::time::Duration;

use async_trait::async_trait;
use keelstone_chaos_bed::Outcome;
use rand::{seq::IndexedRandom, Rng};

use super::{dice, Harm, Nemesis};
use crate::{cluster::Cluster, schedule::Fault};

#[derive(Debug)]
pub struct MoveLeader;

const PAUSE: Duration = Duration::from_millis(1_500);

#[async_trait]
impl Nemesis for MoveLeader {
    fn name(&self) -> &'static str {
        "move-leader"
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let mut rng = dice(fault);
        let (mut moved, mut refused) = (0, Vec::new());
        for _ in 0..rng.random_range(1..=fault.length_ms / 2_000 + 1) {
            let Some(leader) = cluster.leader().await else { continue };
            let others: Vec<String> = cluster.names().into_iter().filter(|n| *n != leader).collect();
            let Some(to) = others.choose(&mut rng) else { continue };
            let Some(status) = cluster.status(to).await else { continue };
            let id = status.header.map_or(0, |h| h.member_id);
            match cluster.observer_of(&leader)?.move_leader(id).await.error() {
                None => moved += 1,
                Some(error) => refused.push(error.to_owned()),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(Harm::new(Vec::new(), format!("the leader moved {moved} times, refused: {refused:?}")))
    }

    async fn stop(&self, _cluster: &Cluster, _harm: &Harm) -> Outcome<()> {
        Ok(())
    }
}
