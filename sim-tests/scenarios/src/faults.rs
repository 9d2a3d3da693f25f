//! The fault injector.
//!
//! The fault model. Faults come in three lanes that run at the same time, each with at most one fault; a
//! seed enables a random part of the kinds of each lane and decides times, victims and lengths.
//! - network: `partition` (a host cut off from some or all others, both ways), `one_way` (only what it sends,
//!   or only what it is sent, is lost), `hold` (messages of a link wait and then all arrive), `slow_link`.
//!   Messages of a partitioned link are lost for good; TCP does not repeat them, so its connections hang.
//! - process: `kill` (the process is gone, its disk keeps everything written), `power_loss` (also the writes
//!   and names that were not synced are cut at a seeded point, the last write may be torn), `minority_left`
//!   (all masters but one lose power), `all_lost` (all masters lose power), `worker_kill` (the agents of a
//!   workers' host; containers go on), `worker_power_loss` (their containers end too).
//!   Every host comes back. What was synced is never lost: a quorum's logs stay readable.
//! - disk: `slow_disk` (blocking work of a host takes long).
//!
//! Not modelled: altered messages, bit rot, full disks, clocks that jump (wall clocks differ by a constant),
//! the loss of pods' volumes (they lie on a real file system, in a folder of the run).
//! Planted, never else: disks that answer syncs without doing anything ([`Plant::LostWrite`]).

use std::{collections::BTreeMap, time::Duration};

use keelstone_env::Random;
use keelstone_world::{DiskFaults, Host, SeededRandom, OFFLOAD_DELAY_US_MAX};
use turmoil::Sim;

use crate::{constants::*, Plant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Partition,
    OneWay,
    Hold,
    SlowLink,
    Kill,
    PowerLoss,
    MinorityLeft,
    AllLost,
    WorkerKill,
    WorkerPowerLoss,
    SlowDisk,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::OneWay => "one_way",
            Self::Hold => "hold",
            Self::SlowLink => "slow_link",
            Self::Kill => "kill",
            Self::PowerLoss => "power_loss",
            Self::MinorityLeft => "minority_left",
            Self::AllLost => "all_lost",
            Self::WorkerKill => "worker_kill",
            Self::WorkerPowerLoss => "worker_power_loss",
            Self::SlowDisk => "slow_disk",
        }
    }
}

/// How a fault is taken back.
#[derive(Debug)]
enum Undo {
    Repair(Vec<(String, String)>),
    Release(Vec<(String, String)>),
    FastLinks(Vec<(String, String)>),
    Restart(Vec<String>),
    FastDisk(String),
}

#[derive(Debug)]
struct Lane {
    kinds: Vec<Kind>,
    /// Faults begun so far: each kind fires once before any fires twice.
    begun: usize,
    active: Option<(Duration, Undo)>,
    next_at: Duration,
}

/// Where the planted loss of writes stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LostWrite {
    Off,
    Waiting,
    Lying { since: Duration },
}

/// Puts faults into a running simulation.
pub struct Nemesis {
    random: SeededRandom,
    hosts: BTreeMap<String, Host>,
    masters: Vec<String>,
    workers: Vec<String>,
    lanes: Vec<Lane>,
    fired: BTreeMap<&'static str, u64>,
    crashes: Vec<(Duration, String)>,
    on_power_loss: Box<dyn Fn(&str)>,
    lost_write: LostWrite,
}

impl Nemesis {
    /// `masters` and `workers` are the victims among `hosts`; the others are only cut off.
    pub fn new(
        seed: u64,
        hosts: BTreeMap<String, Host>,
        masters: Vec<String>,
        workers: Vec<String>,
        plant: Option<Plant>,
    ) -> Self {
        let random = SeededRandom::derive(seed, "faults");
        let mut process = vec![Kind::PowerLoss, Kind::Kill, Kind::MinorityLeft, Kind::AllLost];
        if !workers.is_empty() {
            process.extend([Kind::WorkerKill, Kind::WorkerPowerLoss]);
        }
        let kinds = [vec![Kind::Partition, Kind::OneWay, Kind::Hold, Kind::SlowLink], process, vec![Kind::SlowDisk]];
        let lanes = kinds.into_iter().map(|all| Lane::new(&random, all)).collect();
        let lost_write = if plant == Some(Plant::LostWrite) { LostWrite::Waiting } else { LostWrite::Off };
        Self {
            random,
            hosts,
            masters,
            workers,
            lanes,
            fired: BTreeMap::new(),
            crashes: Vec::new(),
            on_power_loss: Box::new(|_| ()),
            lost_write,
        }
    }

    /// What else happens when a host loses its power.
    pub fn on_power_loss(mut self, work: impl Fn(&str) + 'static) -> Self {
        self.on_power_loss = Box::new(work);
        self
    }

    /// When which host's process ended.
    pub fn crashes(&self) -> &[(Duration, String)] {
        &self.crashes
    }

    /// How often each kind fired.
    pub fn fired(&self) -> &BTreeMap<&'static str, u64> {
        &self.fired
    }

    /// Begins and ends faults that are due.
    pub fn step(&mut self, sim: &mut Sim<'_>, now: Duration) {
        if self.plant_lost_write(sim, now) {
            return;
        }
        for i in 0..self.lanes.len() {
            if self.lanes[i].active.as_ref().is_some_and(|(end, _)| *end <= now) {
                self.end(sim, i, now);
            } else if self.lanes[i].active.is_none() && self.lanes[i].next_at <= now {
                self.begin(sim, i, now);
            }
        }
    }

    /// Takes all faults back.
    pub fn heal(&mut self, sim: &mut Sim<'_>, now: Duration) {
        for i in 0..self.lanes.len() {
            self.end(sim, i, now);
        }
    }

    fn end(&mut self, sim: &mut Sim<'_>, lane: usize, now: Duration) {
        let Some((_, undo)) = self.lanes[lane].active.take() else { return };
        tracing::info!(at = ?now, ?undo, "fault ends");
        match undo {
            Undo::Repair(links) => links.into_iter().for_each(|(a, b)| sim.repair(a, b)),
            Undo::Release(links) => links.into_iter().for_each(|(a, b)| sim.release(a, b)),
            Undo::FastLinks(links) => {
                links.into_iter().for_each(|(a, b)| sim.set_link_max_message_latency(a, b, LATENCY_MAX));
            }
            Undo::Restart(hosts) => hosts.into_iter().for_each(|host| sim.bounce(host)),
            Undo::FastDisk(host) => self.hosts[&host].set_offload_delay_us_max(OFFLOAD_DELAY_US_MAX),
        }
        self.lanes[lane].next_at = now + self.ms(FAULT_PAUSE_MS_MIN, FAULT_PAUSE_MS_MAX);
    }

    fn begin(&mut self, sim: &mut Sim<'_>, lane: usize, now: Duration) {
        let kinds = &self.lanes[lane].kinds;
        if kinds.is_empty() {
            return;
        }
        let begun = self.lanes[lane].begun;
        let kind =
            if begun < kinds.len() { kinds[begun] } else { kinds[self.random.below(kinds.len() as u64) as usize] };
        let undo = self.inject(sim, kind);
        let long = if matches!(kind, Kind::WorkerKill | Kind::WorkerPowerLoss) { WORKER_FAULT_FACTOR } else { 1 };
        let end = now + self.ms(FAULT_MS_MIN, FAULT_MS_MAX) * long;
        tracing::info!(at = ?now, kind = kind.name(), until = ?end, ?undo, "fault begins");
        *self.fired.entry(kind.name()).or_default() += 1;
        self.lanes[lane].begun += 1;
        self.lanes[lane].active = Some((end, undo));
    }

    fn inject(&mut self, sim: &mut Sim<'_>, kind: Kind) -> Undo {
        match kind {
            Kind::Partition => {
                let links = self.links_of_a_host();
                links.iter().for_each(|(a, b)| sim.partition(a.as_str(), b.as_str()));
                Undo::Repair(links)
            }
            Kind::OneWay => {
                let links = self.links_of_a_host();
                let outward = self.random.chance(50);
                for (a, b) in &links {
                    let (from, to) = if outward { (a, b) } else { (b, a) };
                    sim.partition_oneway(from.as_str(), to.as_str());
                }
                Undo::Repair(links)
            }
            Kind::Hold => {
                let links = self.links_of_a_host();
                links.iter().for_each(|(a, b)| sim.hold(a.as_str(), b.as_str()));
                Undo::Release(links)
            }
            Kind::SlowLink => {
                let links = self.links_of_a_host();
                for (a, b) in &links {
                    sim.set_link_max_message_latency(a.as_str(), b.as_str(), SLOW_LINK_LATENCY_MAX);
                }
                Undo::FastLinks(links)
            }
            Kind::Kill | Kind::PowerLoss => {
                let victim = self.pick(&self.masters);
                self.stop(sim, vec![victim], kind == Kind::PowerLoss)
            }
            Kind::MinorityLeft => {
                let survivor = self.pick(&self.masters);
                let victims = self.masters.iter().filter(|m| **m != survivor).cloned().collect();
                self.stop(sim, victims, true)
            }
            Kind::AllLost => self.stop(sim, self.masters.clone(), true),
            Kind::WorkerKill | Kind::WorkerPowerLoss => {
                let victim = self.pick(&self.workers);
                self.stop(sim, vec![victim], kind == Kind::WorkerPowerLoss)
            }
            Kind::SlowDisk => {
                let host = self.pick(&self.masters);
                self.hosts[&host].set_offload_delay_us_max(SLOW_DISK_DELAY_US_MAX);
                Undo::FastDisk(host)
            }
        }
    }

    fn stop(&mut self, sim: &mut Sim<'_>, victims: Vec<String>, power_lost: bool) -> Undo {
        for victim in &victims {
            sim.crash(victim.as_str());
            self.crashes.push((sim.elapsed(), victim.clone()));
            if power_lost {
                self.hosts[victim].disk.crash();
                (self.on_power_loss)(victim);
            }
        }
        Undo::Restart(victims)
    }

    /// Links of one host: to all masters and workers, or to some, or to all hosts, clients included.
    fn links_of_a_host(&self) -> Vec<(String, String)> {
        let victims: Vec<String> = self.masters.iter().chain(&self.workers).cloned().collect();
        let victim = self.pick(&victims);
        let everyone = self.random.chance(40);
        let share = if self.random.chance(60) { 100 } else { 50 };
        let mut others: Vec<String> =
            self.hosts.keys().filter(|h| **h != victim && (everyone || victims.contains(h))).cloned().collect();
        let first = self.pick(&others);
        others.retain(|other| *other == first || self.random.chance(share));
        others.into_iter().map(|other| (victim.clone(), other)).collect()
    }

    /// Returns true while the plant is at work and nothing else may happen.
    fn plant_lost_write(&mut self, sim: &mut Sim<'_>, now: Duration) -> bool {
        match self.lost_write {
            LostWrite::Waiting if now > SAFETY_TIME_MIN / 2 => {
                self.heal(sim, now);
                self.set_lying(true);
                self.lost_write = LostWrite::Lying { since: now };
                true
            }
            LostWrite::Lying { since } if now > since + LYING_TIME => {
                tracing::info!(at = ?now, "the power goes on all masters after lying syncs");
                let undo = self.stop(sim, self.masters.clone(), true);
                self.set_lying(false);
                self.lanes[1].active = Some((now + Duration::from_millis(FAULT_MS_MIN), undo));
                *self.fired.entry("lying_sync").or_default() += 1;
                self.lost_write = LostWrite::Off;
                true
            }
            LostWrite::Lying { .. } => true,
            LostWrite::Off | LostWrite::Waiting => false,
        }
    }

    fn set_lying(&self, lying_sync: bool) {
        for master in &self.masters {
            self.hosts[master].disk.set_faults(DiskFaults { lying_sync, ..DiskFaults::default() });
        }
    }

    fn pick(&self, from: &[String]) -> String {
        from[self.random.below(from.len() as u64) as usize].clone()
    }

    fn ms(&self, min: u64, max: u64) -> Duration {
        Duration::from_millis(min + self.random.below(max - min))
    }
}

impl Lane {
    /// A seeded part of `all`, never nothing, in a seeded order.
    fn new(random: &SeededRandom, all: Vec<Kind>) -> Self {
        let first = all[random.below(all.len() as u64) as usize];
        let mut kinds: Vec<Kind> = all.into_iter().filter(|kind| *kind == first || random.chance(60)).collect();
        for i in (1..kinds.len()).rev() {
            kinds.swap(i, random.below(i as u64 + 1) as usize);
        }
        let next_at = Duration::from_millis(1_500 + random.below(FAULT_PAUSE_MS_MAX));
        Self { kinds, begun: 0, active: None, next_at }
    }
}
