//! The fault injector.
//!
//! # The fault model
//!
//! A run's faults are a schedule, drawn from the seed before the run begins (or read from a case file): when,
//! how long, what, and whom. Four lanes run beside each other, each with one fault at a time; a seed switches
//! off a random part of the kinds, and sometimes whole lanes (swarm testing).
//!
//! - network ([`network`]): `partition`, `isolate_leader` (whoever leads when it begins), `one_way`, `hold`, `reorder`, `slow_link`, `reset`. Links are chosen by
//!   shape: one host, halves, ring, bridge, minority. Messages of a cut link are lost for good: TCP is not
//!   repeated, its connections hang until somebody's patience ends. Not modelled: altered messages (TLS and
//!   checksums), duplicated segments (TCP removes them; calls are duplicated by clients that try again).
//! - process ([`process`]): `kill`, `power_loss`, `power_cut` (at a sync or rename), `freeze`, `move_leader`.
//!   Every process comes back. A process that ends by itself is started again by its supervisor; that is a
//!   violation unless its disk had been made to fail.
//! - disk ([`disk`]): `slow_disk`, `full_disk`, `io_errors`, and for good: `bit_flip`, `misdirect`. Lasting damage
//!   falls on one host of each run (the expendable one): what the others synced stays, so a quorum is
//!   recoverable. A host that refuses its damaged disk stays away; one that serves must be right. The end of a
//!   file that grows is spared until something is synced behind it: a log whose last record is altered or missing
//!   looks like one whose last write was cut short, and was acknowledged or not. Nobody can tell; together with one
//!   other host that lags, an acknowledged write would be gone, so this is beyond what a quorum of three survives.
//! - time ([`clock`]): `clock_jump`, `clock_drift` (wall clocks), `fast_timers` (monotonic time up to 2 % fast).
//!   Wall clocks differ from the beginning. Timers never run slow and processes never stop between two awaits:
//!   `freeze` holds a host's messages and disk, but its timers go on.
//!
//! - membership ([`membership`], in some seeds of the store's scenario): `replace_member`, `lose_disk`, `release`.
//!
//! Planted, never drawn: `lying_sync` (disks answer syncs without doing anything, then the power goes).
//! Not modelled: the loss of pods' volumes (they lie on a real file system, in a folder of the run).

mod clock;
mod disk;
mod kind;
mod membership;
mod network;
mod process;
mod schedule;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use kind::{Fault, Kind};
pub use schedule::{draw, Hosts};

use keelstone_world::{Host, SeededRandom};
use turmoil::Sim;

use crate::{constants::*, member::Members};

/// How a fault is taken back.
type Undo = Box<dyn FnOnce(&mut Nemesis, &mut Sim<'_>)>;

/// Puts faults into a running simulation.
pub struct Nemesis {
    random: SeededRandom,
    hosts: BTreeMap<String, Host>,
    members: Members,
    /// Not begun, in the order of their times.
    waiting: std::vec::IntoIter<Fault>,
    active: Vec<(Duration, Undo)>,
    /// Processes that are down, and until when; `None`: until their fault ends.
    down: BTreeMap<String, Option<Duration>>,
    /// Hosts whose disk was made to fail, and when that last was.
    disk_faulted: BTreeMap<String, Duration>,
    damaged: BTreeSet<String>,
    fired: BTreeMap<&'static str, u64>,
    crashes: Vec<(Duration, String)>,
    on_power_loss: Box<dyn Fn(&str)>,
    operator: membership::Operator,
}

impl Nemesis {
    pub fn new(seed: u64, hosts: BTreeMap<String, Host>, members: Members, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.at_ms);
        membership::begin(&members, &faults);
        Self {
            random: SeededRandom::derive(seed, "nemesis"),
            hosts,
            members,
            waiting: faults.into_iter(),
            active: Vec::new(),
            down: BTreeMap::new(),
            disk_faulted: BTreeMap::new(),
            damaged: BTreeSet::new(),
            fired: BTreeMap::new(),
            crashes: Vec::new(),
            on_power_loss: Box::new(|_| ()),
            operator: membership::Operator::default(),
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
        let mut i = 0;
        while i < self.active.len() {
            if self.active[i].0 <= now {
                let (_, undo) = self.active.remove(i);
                undo(self, sim);
            } else {
                i += 1;
            }
        }
        while self.waiting.as_slice().first().is_some_and(|fault| fault.at_ms <= now.as_millis() as u64) {
            if let Some(fault) = self.waiting.next() {
                self.begin(sim, now, &fault);
            }
        }
        self.watch_power(sim, now);
        self.start_due(sim, now);
        self.operate(sim, now);
    }

    /// What is left of faults of the membership is mended, also once all others are over.
    pub fn operate(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let mut operator = std::mem::take(&mut self.operator);
        operator.step(self, sim, now);
        self.operator = operator;
    }

    /// Takes back all faults; lasting damage stays.
    pub fn heal(&mut self, sim: &mut Sim<'_>) {
        for (_, undo) in std::mem::take(&mut self.active) {
            undo(self, sim);
        }
        self.waiting = Vec::new().into_iter();
        for host in self.hosts.values() {
            host.disk.set_faults(keelstone_world::DiskFaults::default());
        }
        let down: Vec<String> = self.down.keys().cloned().collect();
        down.into_iter().for_each(|host| self.start(sim, &host));
        self.operator.hurry();
        membership::upgrade_all(self, sim);
    }

    /// A process has ended by itself: it is started again a little later. False if its disk gave it no reason.
    pub fn exited(&mut self, sim: &mut Sim<'_>, host: &str, now: Duration) -> bool {
        let power_gone = self.host(host).is_some_and(|host| host.disk.power_is_gone());
        let excused = power_gone
            || self.operator.excuses(host)
            || self.members.is_old(host)
            || self.damaged.contains(host)
            || self.disk_faulted.get(host).is_some_and(|at| *at + EXCUSED_AFTER_DISK_FAULT > now);
        let pause = if self.damaged.contains(host) { DAMAGED_RESTART_PAUSE } else { RESTART_PAUSE };
        self.stop(sim, host, Some(now + pause), false);
        excused
    }

    /// A process ends, and is started again at `until`.
    pub fn outage(&mut self, sim: &mut Sim<'_>, host: &str, until: Duration) {
        self.stop(sim, host, Some(until), false);
    }

    /// The host's disk holds something wrong for good: it may refuse to serve.
    pub fn is_damaged(&self, host: &str) -> bool {
        self.damaged.contains(host)
    }

    fn begin(&mut self, sim: &mut Sim<'_>, now: Duration, fault: &Fault) {
        let undo = match fault.kind.family() {
            kind::Family::Network => network::inject(self, sim, fault),
            kind::Family::Process => process::inject(self, sim, fault),
            kind::Family::Disk => disk::inject(self, sim, now, fault),
            kind::Family::Clock => clock::inject(self, sim, now, fault),
            kind::Family::Membership => membership::inject(self, sim, now, fault),
        };
        tracing::info!(at = ?now, %fault, "fault begins");
        *self.fired.entry(fault.kind.name()).or_default() += 1;
        if let Some(undo) = undo {
            self.active.push((now + Duration::from_millis(fault.for_ms), undo));
        }
    }

    fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.get(name)
    }

    /// Ends a host's process, which stays down until `until` or, without it, until somebody starts it.
    fn stop(&mut self, sim: &mut Sim<'_>, host: &str, until: Option<Duration>, power_lost: bool) {
        if !self.hosts.contains_key(host) {
            return;
        }
        if !self.down.contains_key(host) {
            sim.crash(host);
            self.hosts[host].disk.process_ended();
            self.members.note_end(host);
            self.crashes.push((sim.elapsed(), host.to_owned()));
        }
        self.down.insert(host.to_owned(), until);
        if power_lost {
            self.hosts[host].disk.crash();
            (self.on_power_loss)(host);
        }
    }

    fn start(&mut self, sim: &mut Sim<'_>, host: &str) {
        if self.down.remove(host).is_some() {
            self.hosts[host].disk.power_on();
            sim.bounce(host);
        }
    }

    /// Processes that were to be down for a time are started again.
    pub fn start_due(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let due: Vec<String> =
            self.down.iter().filter(|(_, until)| until.is_some_and(|at| at <= now)).map(|(h, _)| h.clone()).collect();
        due.into_iter().for_each(|host| self.start(sim, &host));
    }

    /// A disk whose power was cut takes its host down.
    fn watch_power(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let gone: Vec<String> = self
            .hosts
            .iter()
            .filter(|(name, host)| host.disk.power_is_gone() && !self.down.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        for host in gone {
            self.stop(sim, &host, Some(now + RESTART_PAUSE), false);
            (self.on_power_loss)(&host);
        }
    }
}
