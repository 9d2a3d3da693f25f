//! Networks that fall apart, by drops on the bridge.

use std::{net::Ipv4Addr, time::Duration};

use async_trait::async_trait;
use keelstone_chaos_bed::{
    between,
    constants::{client_address, CLIENTS_MAX},
    Outcome, Pair,
};
use rand::{seq::SliceRandom, Rng};

use super::{dice, resolve, Harm, Nemesis};
use crate::{cluster::Cluster, schedule::Fault};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Two groups that do not hear each other; one has a quorum.
    Halves,
    /// The victim alone, from the other members; its clients still reach it.
    Isolate,
    /// Each member hears its two neighbours of a ring only. With three members all hear each other, so one cable is cut.
    Ring,
    /// Two groups that reach each other through one member only.
    Bridge,
    /// The victim hears the others, and they do not hear it, or the other way round.
    OneWay,
    /// The victim is cut off and back, again and again.
    Flapping,
    /// No member hears another.
    Apart,
    /// A third of the clients does not reach a member.
    Clients,
}

#[derive(Debug)]
pub struct Partition {
    pub shape: Shape,
}

const FLAPS: u32 = 6;

/// What is lost, from the members' addresses and the victim's place among them.
fn cuts(shape: Shape, all: &[Ipv4Addr], victim: usize, rng: &mut impl Rng) -> Vec<Pair> {
    let own = all[victim];
    let others: Vec<Ipv4Addr> = all.iter().copied().filter(|a| *a != own).collect();
    match shape {
        Shape::Halves => {
            let mut mixed = all.to_vec();
            mixed.shuffle(rng);
            let (minority, majority) = mixed.split_at((all.len() - 1) / 2);
            between(minority, majority)
        }
        Shape::Isolate | Shape::Flapping => between(&[own], &others),
        Shape::Apart => between(all, all),
        Shape::Ring if all.len() < 4 => between(&[own], &others[..1]),
        Shape::Ring => {
            let count = all.len();
            let far = |i: usize, j: usize| (i + 1) % count != j && (j + 1) % count != i && i != j;
            let pairs = (0..count).flat_map(|i| (0..count).map(move |j| (i, j)));
            pairs.filter(|(i, j)| far(*i, *j)).map(|(i, j)| (all[i], all[j])).collect()
        }
        Shape::Bridge => {
            let (left, right) = others.split_at(others.len() / 2);
            between(left, right)
        }
        Shape::OneWay => {
            let outwards = rng.random_bool(0.5);
            others.iter().map(|other| if outwards { (own, *other) } else { (*other, own) }).collect()
        }
        Shape::Clients => {
            let clients: Vec<Ipv4Addr> =
                (0..u32::from(CLIENTS_MAX) - 1).filter(|_| rng.random_bool(0.33)).map(client_address).collect();
            between(&clients, &[own])
        }
    }
}

#[async_trait]
impl Nemesis for Partition {
    fn name(&self) -> &'static str {
        match self.shape {
            Shape::Halves => "partition-halves",
            Shape::Isolate => "partition-isolate",
            Shape::Ring => "partition-ring",
            Shape::Bridge => "partition-bridge",
            Shape::OneWay => "partition-one-way",
            Shape::Flapping => "partition-flapping",
            Shape::Apart => "partition-all",
            Shape::Clients => "partition-clients",
        }
    }

    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm> {
        let names = resolve(cluster, fault.victim).await;
        let addresses = cluster.addresses();
        let victim = cluster.names().iter().position(|n| names.first() == Some(n)).unwrap_or(0);
        let pairs = cuts(self.shape, &addresses, victim, &mut dice(fault));
        let told = format!("{}: {} directions cut, around {}", self.name(), pairs.len(), names.join(", "));
        if self.shape == Shape::Flapping {
            let half = Duration::from_millis(fault.length_ms) / (2 * FLAPS);
            for _ in 1..FLAPS {
                cluster.bed.firewall().cut(self.name(), pairs.clone())?;
                tokio::time::sleep(half).await;
                cluster.bed.firewall().mend(self.name())?;
                tokio::time::sleep(half).await;
            }
        }
        cluster.bed.firewall().cut(self.name(), pairs)?;
        Ok(Harm::new(names, told))
    }

    async fn stop(&self, cluster: &Cluster, _harm: &Harm) -> Outcome<()> {
        cluster.bed.firewall().mend(self.name())
    }
}

#[cfg(test)]
mod tests {
    use rand::{rngs::SmallRng, SeedableRng};

    use super::*;

    fn addresses(count: u8) -> Vec<Ipv4Addr> {
        (0..count).map(|i| Ipv4Addr::new(10, 77, 0, 11 + i)).collect()
    }

    fn cut(shape: Shape, count: u8) -> Vec<Pair> {
        cuts(shape, &addresses(count), 1, &mut SmallRng::seed_from_u64(1))
    }

    #[test]
    fn shapes_are_what_their_names_say() {
        assert_eq!(cut(Shape::Halves, 5).len(), 2 * 2 * 3);
        assert_eq!(cut(Shape::Isolate, 3).len(), 4);
        assert_eq!(cut(Shape::Ring, 3).len(), 2);
        // Five members, each hears two of four.
        assert_eq!(cut(Shape::Ring, 5).len(), 10);
        assert_eq!(cut(Shape::Bridge, 5).len(), 8);
        assert_eq!(cut(Shape::OneWay, 3).len(), 2);
        assert_eq!(cut(Shape::Apart, 3).iter().collect::<std::collections::BTreeSet<_>>().len(), 6);
        let member = addresses(3)[1];
        assert!(cut(Shape::Clients, 3).iter().all(|(a, b)| *a == member || *b == member));
    }
}
