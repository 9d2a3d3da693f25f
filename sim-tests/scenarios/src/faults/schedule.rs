//! Draws a schedule of faults from a seed.

use keelstone_env::Random;
use keelstone_world::SeededRandom;

use super::{membership, Fault, Kind};
use crate::constants::*;

/// Who may be a victim.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    pub masters: Vec<String>,
    pub workers: Vec<String>,
    pub clients: Vec<String>,
    /// Lasting damage to a disk may be drawn, for one of the masters.
    pub lasting_damage: bool,
    /// Members may be replaced, lose their disks, and run as other releases.
    pub membership: bool,
}

/// A schedule for the first [`FAULTS_TIME_MAX`] of a run.
pub fn draw(seed: u64, hosts: &Hosts) -> Vec<Fault> {
    let draw = Draw { random: SeededRandom::derive(seed, "faults"), hosts };
    let mut lanes = vec![
        vec![
            Kind::Partition,
            Kind::Partition,
            Kind::IsolateLeader,
            Kind::IsolateLeader,
            Kind::OneWay,
            Kind::Hold,
            Kind::Reorder,
            Kind::SlowLink,
            Kind::Reset,
        ],
        vec![Kind::Kill, Kind::PowerLoss, Kind::PowerCut, Kind::Freeze, Kind::MoveLeader],
        vec![Kind::SlowDisk, Kind::FullDisk, Kind::IoErrors, Kind::BitFlip, Kind::Misdirect],
        vec![Kind::ClockJump, Kind::ClockDrift, Kind::FastTimers],
    ];
    // At least two lanes have something in them.
    while lanes.len() > 2 && draw.random.chance(25) {
        lanes.remove(draw.below(lanes.len()));
    }
    let mut faults: Vec<Fault> = lanes.into_iter().flat_map(|kinds| draw.lane(kinds)).collect();
    faults.sort_by_key(|fault| fault.at_ms);
    membership::draw(seed, hosts, &mut faults);
    faults
}

struct Draw<'a> {
    random: SeededRandom,
    hosts: &'a Hosts,
}

impl Draw<'_> {
    fn below(&self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    fn between(&self, min: u64, max: u64) -> u64 {
        min + self.random.below(max - min)
    }

    fn pick<'a>(&self, from: &'a [String]) -> &'a String {
        &from[self.below(from.len())]
    }

    /// One fault after the other, of a seeded part of `all` in a seeded order first.
    fn lane(&self, all: Vec<Kind>) -> Vec<Fault> {
        let first = all[self.below(all.len())];
        let mut kinds: Vec<Kind> = all.into_iter().filter(|kind| *kind == first || self.random.chance(60)).collect();
        for i in (1..kinds.len()).rev() {
            kinds.swap(i, self.below(i + 1));
        }
        // In some seeds partitions and outages outlast leases.
        let patience = if self.random.chance(40) { LONG_FAULT_FACTOR } else { 1 };
        // A seed is calm or hectic.
        let hurry = self.between(1, 4);
        let mut faults = Vec::new();
        let mut at_ms = FAULTS_BEGIN_MS + self.random.below(FAULT_PAUSE_MS_MAX);
        while at_ms < FAULTS_TIME_MAX.as_millis() as u64 {
            let begun = faults.len();
            let kind = if begun < kinds.len() { kinds[begun] } else { kinds[self.below(kinds.len())] };
            let mut fault = self.fault(kind, at_ms);
            fault.for_ms *= patience;
            at_ms += fault.for_ms + self.between(FAULT_PAUSE_MS_MIN, FAULT_PAUSE_MS_MAX * hurry);
            faults.push(fault);
        }
        faults
    }

    fn fault(&self, kind: Kind, at_ms: u64) -> Fault {
        let mut for_ms = self.between(FAULT_MS_MIN, FAULT_MS_MAX);
        let (mut hosts, mut links, mut amount) = (Vec::new(), Vec::new(), 0);
        match kind {
            Kind::Partition | Kind::OneWay | Kind::Hold | Kind::Reorder => links = self.links(),
            // Who that is shows when it begins. Even amounts cut it off from the clients as well.
            Kind::IsolateLeader => amount = self.between(1, 3) as i64,
            Kind::Reset => (links, for_ms) = (self.links(), 0),
            Kind::SlowLink => (links, amount) = (self.links(), self.between(10, SLOW_LINK_LATENCY_MS_MAX) as i64),
            Kind::Kill | Kind::PowerLoss => {
                let worker = !self.hosts.workers.is_empty() && self.random.chance(35);
                hosts = if worker { vec![self.pick(&self.hosts.workers).clone()] } else { self.some_masters() };
                for_ms *= if worker { WORKER_FAULT_FACTOR } else { 1 };
            }
            Kind::PowerCut => (hosts, amount, for_ms) = (self.some_masters(), self.between(1, 24) as i64, 0),
            Kind::Freeze => hosts.push(self.pick(&self.hosts.masters).clone()),
            Kind::MoveLeader => (amount, for_ms) = (self.between(1, 8) as i64, 0),
            // The last three are drawn elsewhere.
            Kind::LyingSync | Kind::ReplaceMember | Kind::LoseDisk | Kind::Release => {
                hosts.clone_from(&self.hosts.masters)
            }
            Kind::SlowDisk => {
                hosts.push(self.pick(&self.hosts.masters).clone());
                amount = self.between(2_000, SLOW_DISK_DELAY_US_MAX) as i64;
            }
            Kind::FullDisk => {
                hosts.push(self.pick(&self.hosts.masters).clone());
                amount = self.random.below(20_000) as i64;
            }
            Kind::IoErrors => {
                hosts.push(self.pick(&self.hosts.masters).clone());
                amount = [1, 10, 100][self.below(3)];
            }
            Kind::BitFlip | Kind::Misdirect if self.hosts.lasting_damage => {
                hosts.extend(self.hosts.masters.last().cloned());
                for_ms = 0;
            }
            // Where nothing may last, something harmless stands in its place.
            Kind::BitFlip | Kind::Misdirect => {
                hosts.push(self.pick(&self.hosts.masters).clone());
                return Fault { at_ms, for_ms, kind: Kind::SlowDisk, hosts, links, amount: 2_000 };
            }
            Kind::ClockJump => {
                hosts.push(self.pick(&self.all()).clone());
                let sign = if self.random.chance(50) { -1 } else { 1 };
                (amount, for_ms) = (sign * self.between(10, CLOCK_JUMP_MS_MAX) as i64, 0);
            }
            Kind::ClockDrift => {
                hosts.push(self.pick(&self.all()).clone());
                amount = self.between(0, 2 * CLOCK_DRIFT_PPM_MAX) as i64 - CLOCK_DRIFT_PPM_MAX as i64;
            }
            Kind::FastTimers => {
                hosts.push(self.pick(&self.hosts.masters).clone());
                amount = self.between(1, FAST_TIMERS_MS_MAX + 1) as i64;
            }
        }
        Fault { at_ms, for_ms, kind, hosts, links, amount }
    }

    /// Everybody but clients.
    fn all(&self) -> Vec<String> {
        self.hosts.masters.iter().chain(&self.hosts.workers).cloned().collect()
    }

    /// One, all but one, or all.
    fn some_masters(&self) -> Vec<String> {
        let masters = &self.hosts.masters;
        let one = self.pick(masters);
        match self.random.below(10) {
            0 => masters.clone(),
            1 | 2 => masters.iter().filter(|m| *m != one).cloned().collect(),
            _ => vec![one.clone()],
        }
    }

    /// The links that a shape cuts.
    fn links(&self) -> Vec<(String, String)> {
        let links = self.shape();
        // A shape may have nothing to cut among so few hosts.
        if links.is_empty() {
            let masters = &self.hosts.masters;
            return masters[1..].iter().map(|other| (masters[0].clone(), other.clone())).collect();
        }
        links
    }

    fn shape(&self) -> Vec<(String, String)> {
        let mut hosts = self.all();
        if self.random.chance(40) {
            hosts.extend(self.hosts.clients.iter().cloned());
        }
        let one = self.pick(&hosts).clone();
        let others: Vec<String> = hosts.iter().filter(|h| **h != one).cloned().collect();
        let groups = |in_first: &dyn Fn(&String) -> bool, bridge: Option<&String>| {
            let (first, second): (Vec<_>, Vec<_>) =
                hosts.iter().filter(|h| Some(*h) != bridge).partition(|h| in_first(h));
            let pairs = first.iter().flat_map(|a| second.iter().map(|b| ((*a).clone(), (*b).clone())));
            pairs.collect::<Vec<_>>()
        };
        match self.random.below(6) {
            // One host from everybody.
            0 | 1 => others.into_iter().map(|other| (one.clone(), other)).collect(),
            // One host from some.
            2 => {
                let keep = self.pick(&others).clone();
                let some = others.into_iter().filter(|other| *other == keep || self.random.chance(50));
                some.map(|other| (one.clone(), other)).collect()
            }
            // Halves, of which one is a minority of the masters.
            3 => groups(&|host| *host == one || (!self.hosts.masters.contains(host) && self.random.chance(50)), None),
            // A bridge: one host sees both halves.
            4 => groups(&|host| host.as_bytes().last().is_some_and(|b| b % 2 == 0), Some(&one)),
            // A ring: everybody sees only two neighbours.
            _ => {
                let n = hosts.len();
                let far = |i: usize, j: usize| j - i > 1 && !(i == 0 && j == n - 1);
                let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
                let cut: Vec<_> =
                    pairs.filter(|&(i, j)| far(i, j)).map(|(i, j)| (hosts[i].clone(), hosts[j].clone())).collect();
                // Three hosts in a ring see each other.
                if cut.is_empty() {
                    vec![(one, others[0].clone())]
                } else {
                    cut
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hosts() -> Hosts {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Hosts {
            masters: names(&["m1", "m2", "m3"]),
            workers: names(&["w1", "w2"]),
            clients: names(&["client"]),
            lasting_damage: true,
            membership: true,
        }
    }

    fn by_role(kind: Kind) -> bool {
        matches!(kind, Kind::MoveLeader | Kind::IsolateLeader)
    }

    #[test]
    fn seeds_reach_every_kind_and_each_switches_some_off() {
        let mut all = BTreeSet::new();
        for seed in 0..60 {
            let faults = draw(seed, &hosts());
            let kinds: BTreeSet<Kind> = faults.iter().map(|f| f.kind).collect();
            assert!(kinds.len() >= 2 && kinds.len() < Kind::ALL.len() - 1, "seed {seed}: {kinds:?}");
            assert!(faults.iter().all(|f| !f.links.is_empty() || !f.hosts.is_empty() || by_role(f.kind)));
            all.extend(kinds);
        }
        let never: Vec<&Kind> = Kind::ALL.iter().filter(|kind| !all.contains(kind)).collect();
        assert_eq!(never, [&Kind::LyingSync], "that one is only planted");
    }

    #[test]
    fn lasting_damage_falls_on_one_host_and_only_if_it_may() {
        for seed in 0..60 {
            let lasting = |hosts: &Hosts| -> BTreeSet<String> {
                let faults = draw(seed, hosts).into_iter();
                faults.filter(|f| matches!(f.kind, Kind::BitFlip | Kind::Misdirect)).flat_map(|f| f.hosts).collect()
            };
            assert!(lasting(&hosts()).len() <= 1);
            assert!(lasting(&Hosts { lasting_damage: false, ..hosts() }).is_empty());
        }
    }
}
