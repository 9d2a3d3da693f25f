//! Faults of links.

use std::time::Duration;

use keelstone_env::Random;
use turmoil::Sim;

use super::{Fault, Kind, Nemesis, Undo};
use crate::constants::*;

pub fn inject(nemesis: &mut Nemesis, sim: &mut Sim<'_>, fault: &Fault) -> Option<Undo> {
    let known = |name: &String| nemesis.hosts.contains_key(name);
    let mut links: Vec<_> = fault.links.iter().filter(|(a, b)| known(a) && known(b)).cloned().collect();
    if fault.kind == Kind::IsolateLeader {
        links = leader_links(nemesis, fault.amount % 2 == 0);
    }
    match fault.kind {
        Kind::OneWay => links.iter().for_each(|(a, b)| sim.partition_oneway(a.as_str(), b.as_str())),
        Kind::Hold | Kind::Reorder => links.iter().for_each(|(a, b)| sim.hold(a.as_str(), b.as_str())),
        Kind::SlowLink => {
            let latency = Duration::from_millis(fault.amount.unsigned_abs().max(1));
            links.iter().for_each(|(a, b)| sim.set_link_max_message_latency(a.as_str(), b.as_str(), latency));
        }
        Kind::Reset => {
            for (a, b) in &links {
                nemesis.hosts[a].connections.reset(b);
                nemesis.hosts[b].connections.reset(a);
            }
            return None;
        }
        _ => links.iter().for_each(|(a, b)| sim.partition(a.as_str(), b.as_str())),
    }
    let kind = fault.kind;
    Some(Box::new(move |nemesis, sim| {
        for (a, b) in links {
            match kind {
                Kind::Hold => sim.release(a, b),
                Kind::Reorder => release_shuffled(nemesis, sim, &a, &b),
                Kind::SlowLink => sim.set_link_max_message_latency(a, b, LATENCY_MAX),
                _ => sim.repair(a, b),
            }
        }
    }))
}

/// From whoever leads now to the other members, or to everybody.
fn leader_links(nemesis: &Nemesis, from_all: bool) -> Vec<(String, String)> {
    let Some(leader) = nemesis.members.leader() else { return Vec::new() };
    let members = nemesis.members.all();
    let others = nemesis.hosts.keys().filter(|name| **name != leader && (from_all || members.contains_key(*name)));
    others.map(|other| (leader.clone(), other.clone())).collect()
}

/// What was held arrives in a seeded order: calls and answers of different connections overtake each other.
fn release_shuffled(nemesis: &Nemesis, sim: &mut Sim<'_>, a: &str, b: &str) {
    let ends = [sim.lookup(a), sim.lookup(b)];
    sim.links(|links| {
        for link in links {
            let (from, to) = link.pair();
            if !(ends.contains(&from) && ends.contains(&to)) {
                continue;
            }
            let mut held: Vec<_> = link.collect();
            while !held.is_empty() {
                held.swap_remove(nemesis.random.below(held.len() as u64) as usize).deliver();
            }
        }
    });
    sim.release(a, b);
}
