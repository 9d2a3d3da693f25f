//! Faults of disks, beside the loss of power.

use std::time::Duration;

use keelstone_world::{DiskFaults, OFFLOAD_DELAY_US_MAX};
use turmoil::Sim;

use super::{Fault, Kind, Nemesis, Undo};

pub fn inject(nemesis: &mut Nemesis, _sim: &mut Sim<'_>, now: Duration, fault: &Fault) -> Option<Undo> {
    let name = fault.hosts.first()?.clone();
    let host = nemesis.host(&name)?.clone();
    let amount = fault.amount.unsigned_abs();
    match fault.kind {
        Kind::SlowDisk => {
            host.set_offload_delay_us_max(amount.max(1));
            return Some(Box::new(move |nemesis, _| {
                nemesis.hosts[&name].set_offload_delay_us_max(OFFLOAD_DELAY_US_MAX)
            }));
        }
        Kind::FullDisk => host.disk.fill_up(amount),
        Kind::IoErrors => host.disk.set_faults(DiskFaults { error_percent: amount, ..DiskFaults::default() }),
        Kind::BitFlip => {
            let damage = host.disk.flip_bit();
            tracing::info!(host = name, ?damage, "a bit is flipped");
            nemesis.members.note_damage();
            nemesis.damaged.insert(name);
            return None;
        }
        Kind::Misdirect => {
            host.disk.misdirect_next_write();
            nemesis.members.note_damage();
            nemesis.damaged.insert(name);
            return None;
        }
        _ => return None,
    }
    nemesis.disk_faulted.insert(name.clone(), now + Duration::from_millis(fault.for_ms));
    Some(Box::new(move |nemesis, _| nemesis.hosts[&name].disk.set_faults(DiskFaults::default())))
}
