//! Faults, two lanes of them beside each other: processes and the network. Each seed leaves out some kinds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use keelstone_env::Random;
use keelstone_world::{EventHash, SeededRandom};
use madsim::{net::NetSim, runtime::Handle, task::NodeId};
use tokio::time::{sleep, Instant};

use crate::{constants::*, member::Member};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A process ends; what it wrote stays.
    Kill,
    /// A process ends, and what was not synced is gone, the last write perhaps torn.
    PowerLoss,
    /// The same on all members at one time.
    PowerLossAll,
    /// A process stands still.
    Pause,
    /// A member hears nobody and is heard by nobody.
    Isolate,
    /// A member is heard and hears nothing.
    Deaf,
    /// A member hears and is not heard.
    Mute,
    /// Two members do not reach each other.
    Cut,
    /// All links are slow.
    Slow,
    /// A member is removed, its disk emptied, and added again.
    ReplaceMember,
    /// A member's disk is empty from one moment to the next: it must be refused until it was replaced.
    LoseDisk,
    /// A fourth member joins and goes again.
    AddMember,
}

const PROCESS: &[Kind] = &[Kind::Kill, Kind::PowerLoss, Kind::PowerLossAll, Kind::Pause];
const NETWORK: &[Kind] = &[Kind::Isolate, Kind::Deaf, Kind::Mute, Kind::Cut, Kind::Slow];

/// Mostly the power goes on one host only: with all members down there is little to interleave.
const POWER_LOSS_ONE_PERCENT: u64 = 70;

/// Whom faults strike, and what has struck.
#[derive(Clone)]
pub struct Faults {
    members: Vec<(Arc<Member>, NodeId)>,
    hash: EventHash,
    struck: Arc<Mutex<BTreeMap<Kind, u64>>>,
}

impl Faults {
    pub fn new(members: Vec<(Arc<Member>, NodeId)>, hash: EventHash) -> Self {
        Self { members, hash, struck: Arc::default() }
    }

    pub fn struck(&self) -> BTreeMap<Kind, u64> {
        self.struck.lock().expect("no panic while locked").clone()
    }

    pub fn note(&self, kind: Kind) {
        *self.struck.lock().expect("no panic while locked").entry(kind).or_default() += 1;
    }

    /// Lets faults strike until their time is over, and repairs them.
    pub async fn run(self, seed: u64) {
        let lane = |name: &str, kinds: &[Kind]| {
            let random = SeededRandom::derive(seed, name);
            let chosen: Vec<Kind> = kinds.iter().copied().filter(|_| random.chance(65)).collect();
            tokio::spawn(self.clone().lane(random, chosen))
        };
        for lane in [lane("process faults", PROCESS), lane("network faults", NETWORK)] {
            lane.await.expect("a lane does not panic");
        }
    }

    async fn lane(self, random: SeededRandom, kinds: Vec<Kind>) {
        let end = Instant::now() + FAULTS_TIME_MAX;
        let between = |bounds: std::ops::Range<u64>| {
            Duration::from_millis(bounds.start + random.below(bounds.end - bounds.start))
        };
        while !kinds.is_empty() {
            sleep(between(FAULT_PAUSE_MS)).await;
            let lasting = between(FAULT_MS);
            if Instant::now() + lasting > end {
                return;
            }
            let mut kind = kinds[random.below(kinds.len() as u64) as usize];
            if kind == Kind::PowerLossAll && random.chance(POWER_LOSS_ONE_PERCENT) {
                kind = Kind::PowerLoss;
            }
            let members = self.members.len();
            let first = random.below(members as u64) as usize;
            let second = (first + 1 + random.below(members as u64 - 1) as usize) % members;
            self.hash.add(&format!("{kind:?} of {first} ({second}) for {lasting:?}"));
            self.note(kind);
            self.strike(kind, first, second, lasting).await;
        }
    }

    async fn strike(&self, kind: Kind, first: usize, second: usize, lasting: Duration) {
        let (net, node) = (NetSim::current(), |at: usize| self.members[at].1);
        match kind {
            Kind::Kill | Kind::PowerLoss => self.outage(&[first], kind == Kind::PowerLoss, lasting).await,
            Kind::PowerLossAll => {
                let all: Vec<usize> = (0..self.members.len()).collect();
                self.outage(&all, true, lasting).await;
            }
            Kind::Pause => {
                Handle::current().pause(node(first));
                sleep(lasting).await;
                Handle::current().resume(node(first));
            }
            Kind::Isolate => {
                net.clog_node(node(first));
                sleep(lasting).await;
                net.unclog_node(node(first));
            }
            Kind::Deaf => {
                net.clog_node_in(node(first));
                sleep(lasting).await;
                net.unclog_node_in(node(first));
            }
            Kind::Mute => {
                net.clog_node_out(node(first));
                sleep(lasting).await;
                net.unclog_node_out(node(first));
            }
            Kind::Cut => {
                let both = [(node(first), node(second)), (node(second), node(first))];
                both.iter().for_each(|(from, to)| net.clog_link(*from, *to));
                sleep(lasting).await;
                both.iter().for_each(|(from, to)| net.unclog_link(*from, *to));
            }
            Kind::Slow => {
                net.update_config(|config| config.send_latency = SLOW_LATENCY);
                sleep(lasting).await;
                net.update_config(|config| config.send_latency = LATENCY);
            }
            // The operator's: see `membership.rs`.
            Kind::ReplaceMember | Kind::LoseDisk | Kind::AddMember => {}
        }
    }

    /// Processes end, and are started again after a time.
    async fn outage(&self, whom: &[usize], power: bool, lasting: Duration) {
        for at in whom {
            self.stop(*at);
            if power {
                self.members[*at].0.disk.crash();
            }
        }
        sleep(lasting).await;
        whom.iter().for_each(|at| self.start(*at));
    }

    fn stop(&self, at: usize) {
        let (member, node) = &self.members[at];
        Handle::current().kill(*node);
        member.note_down();
        member.disk.process_ended();
    }

    /// Starts a process, anew if it runs. That of a host which is no member ends at once.
    pub fn start(&self, at: usize) {
        self.stop(at);
        Handle::current().restart(self.members[at].1);
    }

    /// The process ends, and the disk is empty from now on.
    pub fn wipe(&self, at: usize) {
        self.stop(at);
        self.members[at].0.disk.replace();
    }

    /// The disk is empty from one moment to the next. The process starts again and must not take part.
    pub async fn lose_disk(&self, at: usize) {
        self.members[at].0.note_loss();
        self.wipe(at);
        sleep(LOOK_INTERVAL).await;
        self.start(at);
    }
}
