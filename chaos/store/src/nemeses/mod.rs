//! Faults. One small file each behind [`Nemesis`], and one list, [`all`].

mod clock;
mod corrupt;
mod delay;
mod disk_full;
mod disk_trouble;
mod kill;
mod leader;
mod loss;
mod members;
mod partition;
mod pause;
mod power;
mod restart;

use std::{
    fmt::Debug,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use keelstone_chaos_bed::{Failure, Outcome};
use rand::{rngs::SmallRng, SeedableRng};

use crate::{
    cluster::Cluster,
    schedule::{Fault, Victim},
    target::Part,
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

    /// Whether it fills a host's filesystem or takes its power away: then no other such acts beside it.
    fn takes_filesystem(&self) -> bool {
        false
    }

    /// How long it must last to say anything.
    fn least(&self) -> Duration {
        Duration::ZERO
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
    /// A file that was damaged under a member.
    pub damaged: Option<Damaged>,
}

/// A file, and when it was last written to by whoever damaged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    pub file: PathBuf,
    pub modified: SystemTime,
}

impl Harm {
    pub fn new(hosts: Vec<String>, told: impl Into<String>) -> Self {
        Self { hosts, told: told.into(), damaged: None }
    }
}

/// All of them.
pub fn all() -> Vec<Arc<dyn Nemesis>> {
    use partition::{Partition, Shape};
    let mut all: Vec<Arc<dyn Nemesis>> = Vec::new();
    for count in [Count::One, Count::Two, Count::All] {
        all.push(Arc::new(kill::Kill { count }));
        all.push(Arc::new(pause::Pause { count }));
    }
    for shape in [
        Shape::Halves,
        Shape::Isolate,
        Shape::Ring,
        Shape::Bridge,
        Shape::OneWay,
        Shape::Flapping,
        Shape::Apart,
        Shape::Clients,
    ] {
        all.push(Arc::new(Partition { shape }));
    }
    all.push(Arc::new(loss::Loss));
    all.push(Arc::new(delay::Delay));
    all.push(Arc::new(delay::Rate));
    for lie in [clock::Lie::Jump, clock::Lie::Drift, clock::Lie::Strobe] {
        all.push(Arc::new(clock::Clock { lie, count: Count::One }));
    }
    all.push(Arc::new(clock::Clock { lie: clock::Lie::Jump, count: Count::All }));
    all.push(Arc::new(disk_full::DiskFull));
    use disk_trouble::{DiskTrouble, Trouble};
    for trouble in [Trouble::SlowSync, Trouble::SyncFails, Trouble::WriteFails] {
        all.push(Arc::new(DiskTrouble { trouble }));
    }
    all.push(Arc::new(power::PowerLoss { count: Count::One }));
    all.push(Arc::new(power::PowerLoss { count: Count::All }));
    for damage in [corrupt::Damage::Flip, corrupt::Damage::Truncate] {
        for part in [Part::Log, Part::State, Part::Snapshot] {
            all.push(Arc::new(corrupt::Corrupt { damage, part }));
        }
    }
    all.push(Arc::new(leader::MoveLeader));
    all.push(Arc::new(restart::RollingRestart { upgrade: false }));
    all.push(Arc::new(restart::RollingRestart { upgrade: true }));
    all.push(Arc::new(members::Members));
    all
}

/// Those of `all` that are named; all of them without names.
///
/// # Errors
/// There is none of that name.
pub fn named(all: Vec<Arc<dyn Nemesis>>, names: &[String]) -> Outcome<Vec<Arc<dyn Nemesis>>> {
    if let Some(unknown) = names.iter().find(|n| all.iter().all(|known| known.name() != *n)) {
        let known: Vec<&str> = all.iter().map(|n| n.name()).collect();
        return Err(Failure::impossible(format!("no nemesis {unknown:?}; there are: {}", known.join(", "))));
    }
    Ok(all.into_iter().filter(|n| names.is_empty() || names.iter().any(|name| n.name() == name)).collect())
}

/// How many members a fault takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    One,
    Two,
    All,
}

impl Count {
    /// The schedule's victim first.
    async fn of(self, cluster: &Cluster, victim: Victim) -> Vec<String> {
        let mut hosts = resolve(cluster, if self == Self::All { Victim::Everyone } else { victim }).await;
        if self == Self::Two {
            let second = cluster.names().into_iter().find(|n| !hosts.contains(n));
            hosts.extend(second);
        }
        hosts
    }
}

/// The members that a victim is now. Who leads is asked.
pub async fn resolve(cluster: &Cluster, victim: Victim) -> Vec<String> {
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
pub fn dice(fault: &Fault) -> SmallRng {
    SmallRng::seed_from_u64(fault.dice)
}
