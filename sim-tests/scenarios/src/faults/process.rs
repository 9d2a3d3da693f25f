//! Faults of processes: they end, or others take their role.

use keelstone_world::{DiskFaults, PowerCut};
use turmoil::Sim;

use super::{Fault, Kind, Nemesis, Undo};
use crate::member::Order;

pub fn inject(nemesis: &mut Nemesis, sim: &mut Sim<'_>, fault: &Fault) -> Option<Undo> {
    let hosts: Vec<String> = fault.hosts.iter().filter(|name| nemesis.hosts.contains_key(*name)).cloned().collect();
    match fault.kind {
        Kind::Kill | Kind::PowerLoss => {
            hosts.iter().for_each(|host| nemesis.stop(sim, host, None, fault.kind == Kind::PowerLoss));
            Some(Box::new(move |nemesis, sim| hosts.iter().for_each(|host| nemesis.start(sim, host))))
        }
        Kind::PowerCut => {
            // Odd amounts cut before a boundary's effect, even ones after it.
            let amount = fault.amount.unsigned_abs();
            let power_cut = Some(PowerCut { boundaries: amount / 2, before: amount % 2 == 1 });
            for host in hosts.iter().filter(|host| !nemesis.down.contains_key(*host)) {
                nemesis.hosts[host].disk.set_faults(DiskFaults { power_cut, ..DiskFaults::default() });
            }
            None
        }
        Kind::Freeze => {
            let others: Vec<String> = nemesis.hosts.keys().filter(|name| !hosts.contains(name)).cloned().collect();
            for host in &hosts {
                nemesis.hosts[host].set_frozen(true);
                others.iter().for_each(|other| sim.hold(host.as_str(), other.as_str()));
            }
            Some(Box::new(move |nemesis, sim| {
                for host in &hosts {
                    nemesis.hosts[host].set_frozen(false);
                    others.iter().for_each(|other| sim.release(host.as_str(), other.as_str()));
                }
            }))
        }
        Kind::MoveLeader => {
            let turn = fault.amount.unsigned_abs() as usize;
            nemesis.members.order_leader(Order::HandOver { turn });
            None
        }
        Kind::LyingSync => {
            set_lying(nemesis, &hosts, true);
            nemesis.members.note_damage();
            Some(Box::new(move |nemesis, sim| {
                let restart = Some(sim.elapsed() + crate::constants::RESTART_PAUSE);
                hosts.iter().for_each(|host| nemesis.stop(sim, host, restart, true));
                set_lying(nemesis, &hosts, false);
            }))
        }
        _ => None,
    }
}

fn set_lying(nemesis: &Nemesis, hosts: &[String], lying_sync: bool) {
    for host in hosts {
        nemesis.hosts[host].disk.set_faults(DiskFaults { lying_sync, ..DiskFaults::default() });
    }
}
