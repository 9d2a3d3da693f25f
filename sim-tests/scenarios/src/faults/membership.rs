//! Faults of the membership, and the operator who mends them as docs/operating.md says: one member at a time, and
//! the next one only once the last one's successor votes.
//!
//! - `replace_member`: a member is removed, loses its disk, and joins again later as a new one;
//! - `lose_disk`: a member's disk is replaced by an empty one: it must be refused until it was replaced;
//! - `release`: a member runs as a release of that feature level from now on; from the beginning, if at 0.
//!
//! Runs with these have no lasting damage of disks: it and a missing member together are more than a quorum of three
//! survives.

use std::time::Duration;

use keelstone_env::Random;
use keelstone_raft::{constants::FEATURE_LEVEL, MemberChange, RaftStatus};
use keelstone_world::SeededRandom;
use turmoil::Sim;

use super::{Fault, Hosts, Kind, Nemesis, Undo};
use crate::{
    constants::*,
    member::{peer_url, Members, Order},
};

/// How often the operator looks, and asks again for what is not so yet.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Between two faults of the membership.
const PAUSE_MS_MIN: u64 = 5_000;
const PAUSE_MS_MAX: u64 = 12_000;
/// So many of 100 seeds have any.
const PERCENT: u64 = 35;

/// Adds these faults to a seed's schedule, or nothing.
pub fn draw(seed: u64, hosts: &Hosts, faults: &mut Vec<Fault>) {
    let random = SeededRandom::derive(seed, "membership");
    if !hosts.membership || !random.chance(PERCENT) {
        return;
    }
    faults.retain(|fault| !matches!(fault.kind, Kind::BitFlip | Kind::Misdirect));
    let between = |min: u64, max: u64| min + random.below(max - min);
    let release = |at_ms, hosts: Vec<String>, level| {
        let amount = i64::from(level);
        Fault { at_ms, for_ms: 0, kind: Kind::Release, hosts, links: Vec::new(), amount }
    };
    let mut upgrades = Vec::new();
    if random.chance(50) {
        faults.push(release(0, hosts.masters.clone(), FEATURE_LEVEL - 1));
        upgrades.extend(hosts.masters.iter().cloned());
    }
    let mut at_ms = between(PAUSE_MS_MIN, PAUSE_MS_MAX) / 2;
    while at_ms < FAULTS_TIME_MAX.as_millis() as u64 {
        if let Some(host) = upgrades.pop() {
            faults.push(release(at_ms, vec![host], FEATURE_LEVEL));
            at_ms += between(FAULT_MS_MIN, FAULT_MS_MAX);
            continue;
        }
        let kind = [Kind::ReplaceMember, Kind::ReplaceMember, Kind::LoseDisk, Kind::Release][random.below(4) as usize];
        let host = hosts.masters[random.below(hosts.masters.len() as u64) as usize].clone();
        let for_ms = between(FAULT_MS_MIN, FAULT_MS_MAX);
        let old = if kind == Kind::Release { i64::from(FEATURE_LEVEL - 1) } else { 0 };
        faults.push(Fault { at_ms, for_ms, kind, hosts: vec![host], links: Vec::new(), amount: old });
        at_ms += for_ms + between(PAUSE_MS_MIN, PAUSE_MS_MAX);
    }
    faults.sort_by_key(|fault| fault.at_ms);
}

pub fn inject(nemesis: &mut Nemesis, sim: &mut Sim<'_>, now: Duration, fault: &Fault) -> Option<Undo> {
    let hosts: Vec<String> = fault.hosts.iter().filter(|name| nemesis.hosts.contains_key(*name)).cloned().collect();
    match fault.kind {
        Kind::Release => {
            // Those of the beginning are old already.
            if fault.at_ms == 0 {
                return None;
            }
            let level = level_of(fault);
            hosts.iter().for_each(|host| run_as(nemesis, sim, host, level));
            if level == FEATURE_LEVEL || fault.for_ms == 0 {
                return None;
            }
            return Some(Box::new(move |nemesis, sim| {
                hosts.iter().for_each(|host| run_as(nemesis, sim, host, FEATURE_LEVEL));
            }));
        }
        Kind::ReplaceMember | Kind::LoseDisk => {
            let host = hosts.into_iter().next()?;
            let until = now + Duration::from_millis(fault.for_ms);
            if nemesis.operator.begin(host.clone(), fault.kind, until) && fault.kind == Kind::LoseDisk {
                nemesis.members.note_damage();
                nemesis.stop(sim, &host, Some(now + RESTART_PAUSE), false);
                nemesis.hosts[&host].disk.replace();
            }
        }
        _ => {}
    }
    None
}

/// Starts a host's process again as a release that can do `level`.
fn run_as(nemesis: &mut Nemesis, sim: &mut Sim<'_>, host: &str, level: u32) {
    nemesis.members.set_level(host, level);
    let restart = sim.elapsed() + RESTART_PAUSE;
    nemesis.stop(sim, host, Some(restart), false);
}

fn level_of(release: &Fault) -> u32 {
    u32::try_from(release.amount).unwrap_or(FEATURE_LEVEL)
}

/// Before the hosts start for the first time.
pub fn begin(members: &Members, faults: &[Fault]) {
    for fault in faults.iter().filter(|fault| fault.kind == Kind::Release && fault.at_ms == 0) {
        fault.hosts.iter().for_each(|host| members.set_level(host, level_of(fault)));
    }
}

/// Nobody runs as an older release any more.
pub fn upgrade_all(nemesis: &mut Nemesis, sim: &mut Sim<'_>) {
    nemesis.members.old().iter().for_each(|host| run_as(nemesis, sim, host, FEATURE_LEVEL));
}

/// Replaces one member at a time.
#[derive(Default)]
pub struct Operator {
    work: Option<Work>,
}

struct Work {
    host: String,
    /// When the host is to be there again.
    until: Duration,
    stage: Stage,
    look_at: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has lost its disk and nobody has noticed.
    Lost,
    Removing,
    /// It is removed and its disk is empty.
    Away,
    /// It was added and runs; it is to vote.
    Joining,
}

impl Operator {
    /// False if there is something to do already.
    fn begin(&mut self, host: String, kind: Kind, until: Duration) -> bool {
        if self.work.is_some() {
            return false;
        }
        let stage = if kind == Kind::LoseDisk { Stage::Lost } else { Stage::Removing };
        self.work = Some(Work { host, until, stage, look_at: Duration::ZERO });
        true
    }

    /// The faults are over: nothing is waited for any more.
    pub fn hurry(&mut self) {
        if let Some(work) = &mut self.work {
            work.until = Duration::ZERO;
        }
    }

    /// Whether this host's process has a reason to end by itself.
    pub fn excuses(&self, host: &str) -> bool {
        self.work.as_ref().is_some_and(|work| work.host == host)
    }

    pub fn step(&mut self, nemesis: &mut Nemesis, sim: &mut Sim<'_>, now: Duration) {
        let Some(work) = &mut self.work else { return };
        if now < work.look_at {
            return;
        }
        work.look_at = now + LOOK_INTERVAL;
        let Some(seen) = nemesis.members.leaders_view() else { return };
        let Some(stage) = work.go_on(&seen, nemesis, sim, now) else {
            self.work = None;
            return;
        };
        if stage != work.stage {
            tracing::info!(at = ?now, host = work.host, ?stage, "the operator goes on");
        }
        work.stage = stage;
    }
}

impl Work {
    /// Does what is next; `None` once all is done.
    fn go_on(&self, seen: &RaftStatus, nemesis: &mut Nemesis, sim: &mut Sim<'_>, now: Duration) -> Option<Stage> {
        let url = peer_url(&self.host);
        let listed = seen.members.iter().find(|(_, info)| info.peer_urls.contains(&url)).map(|(id, _)| *id);
        Some(match (self.stage, listed) {
            (Stage::Lost, _) if now < self.until => Stage::Lost,
            (Stage::Lost, _) => Stage::Removing,
            (Stage::Removing, Some(id)) => {
                nemesis.members.order_leader(Order::Change(MemberChange::Remove { id }));
                Stage::Removing
            }
            (Stage::Removing, None) => {
                nemesis.stop(sim, &self.host, None, false);
                nemesis.hosts[&self.host].disk.replace();
                nemesis.members.set_joins(&self.host);
                Stage::Away
            }
            (Stage::Away, _) if now < self.until => Stage::Away,
            (Stage::Away, None) => {
                let peer_address = format!("{}:{STORE_PEER_PORT}", self.host);
                let add = MemberChange::Add { peer_urls: vec![url], peer_address, learner: false };
                nemesis.members.order_leader(Order::Change(add));
                Stage::Away
            }
            (Stage::Away, Some(_)) => {
                nemesis.start(sim, &self.host);
                Stage::Joining
            }
            (Stage::Joining, Some(id)) if seen.voters.contains(&id) => return None,
            (Stage::Joining, _) => Stage::Joining,
        })
    }
}
