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
            let first = random.below(MEMBERS) as usize;
            let second = (first + 1 + random.below(MEMBERS - 1) as usize) % MEMBERS as usize;
            self.hash.add(&format!("{kind:?} of {first} ({second}) for {lasting:?}"));
            *self.struck.lock().expect("no panic while locked").entry(kind).or_default() += 1;
            self.strike(kind, first, second, lasting).await;
        }
    }

    async fn strike(&self, kind: Kind, first: usize, second: usize, lasting: Duration) {
        let (net, node) = (NetSim::current(), |at: usize| self.members[at].1);
        match kind {
            Kind::Kill | Kind::PowerLoss => self.outage(&[first], kind == Kind::PowerLoss, lasting).await,
            Kind::PowerLossAll => self.outage(&[0, 1, 2], true, lasting).await,
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
        }
    }

    /// Processes end, and are started again after a time.
    async fn outage(&self, whom: &[usize], power: bool, lasting: Duration) {
        for (member, node) in whom.iter().map(|at| &self.members[*at]) {
            Handle::current().kill(*node);
            member.note_down();
            member.disk.process_ended();
            if power {
                member.disk.crash();
            }
        }
        sleep(lasting).await;
        whom.iter().for_each(|at| Handle::current().restart(self.members[*at].1));
    }
}
