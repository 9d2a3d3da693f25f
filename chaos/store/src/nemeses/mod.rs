//! Faults. One small file each behind [`Nemesis`], and one list, [`all`].

mod clock;
mod corrupt;
mod delay;
mod disk_full;
mod kill;
mod leader;
mod loss;
mod members;
mod partition;
mod pause;
mod power;
mod restart;

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use keelstone_chaos_bed::Outcome;
use rand::{rngs::SmallRng, SeedableRng};

use crate::{
    cluster::Cluster,
    schedule::{Fault, Victim},
};

/// What a nemesis does, until it is told to stop.
#[async_trait]
pub trait Nemesis: Send + Sync + Debug {
    /// Its name in the history, in schedules and on the command line.
    fn name(&self) -> &'static str;

    /// # Errors
    /// Why it cannot work here: on this machine, in this bed, against this target.
    fn possible(&self, _cluster: &Cluster) -> Result<(), String> {
        Ok(())
    }

    /// Whether it must not act beside others: together they would do more than any store can bear.
    fn alone(&self) -> bool {
        false
    }

    /// Begins.
    async fn start(&self, cluster: &Cluster, fault: &Fault) -> Outcome<Harm>;

    /// Undoes it, as far as it can be undone: what was killed is started.
    async fn stop(&self, cluster: &Cluster, harm: &Harm) -> Outcome<()>;
}

/// What was done to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Harm {
    pub hosts: Vec<String>,
    /// For people.
    pub told: String,
}

impl Harm {
    fn new(hosts: Vec<String>, told: impl Into<String>) -> Self {
        Self { hosts, told: told.into() }
    }
}

/// All of them.
pub fn all() -> Vec<Arc<dyn Nemesis>> {
    use partition::{Partition, Shape};
    let mut all: Vec<Arc<dyn Nemesis>> =
        vec![Arc::new(kill::Kill { everyone: false }), Arc::new(kill::Kill { everyone: true }), Arc::new(pause::Pause)];
    for shape in
        [Shape::Halves, Shape::Isolate, Shape::Ring, Shape::Bridge, Shape::OneWay, Shape::Flapping, Shape::Clients]
    {
        all.push(Arc::new(Partition { shape }));
    }
    all.push(Arc::new(loss::Loss));
    all.push(Arc::new(delay::Delay));
    all.push(Arc::new(delay::Rate));
    for lie in [clock::Lie::Jump, clock::Lie::Drift, clock::Lie::Strobe] {
        all.push(Arc::new(clock::Clock { lie }));
    }
    all.push(Arc::new(disk_full::DiskFull));
    all.push(Arc::new(power::PowerLoss { everyone: false }));
    all.push(Arc::new(power::PowerLoss { everyone: true }));
    for damage in [corrupt::Damage::FlipLog, corrupt::Damage::FlipState, corrupt::Damage::TruncateLog] {
        all.push(Arc::new(corrupt::Corrupt { damage }));
    }
    all.push(Arc::new(leader::MoveLeader));
    all.push(Arc::new(restart::RollingRestart { upgrade: false }));
    all.push(Arc::new(restart::RollingRestart { upgrade: true }));
    all.push(Arc::new(members::Members));
    all
}

/// The members that a victim is now. Who leads is asked.
async fn resolve(cluster: &Cluster, victim: Victim) -> Vec<String> {
    let names = cluster.names();
    let nth = |i: usize| names[i % names.len()].clone();
    match victim {
        Victim::Member(i) => vec![nth(i)],
        Victim::Everyone => names,
        Victim::Leader => vec![cluster.leader().await.unwrap_or_else(|| nth(0))],
        Victim::Follower(i) => {
            let leader = cluster.leader().await.unwrap_or_else(|| nth(0));
            let followers: Vec<String> = names.into_iter().filter(|n| *n != leader).collect();
            vec![followers[i % followers.len().max(1)].clone()]
        }
    }
}

/// The randomness of one fault: the same in every run of a schedule.
fn dice(fault: &Fault) -> SmallRng {
    SmallRng::seed_from_u64(fault.dice)
}
