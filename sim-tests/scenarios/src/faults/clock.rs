//! Faults of clocks.

use std::time::Duration;

use turmoil::Sim;

use super::{Fault, Kind, Nemesis, Undo};

pub fn inject(nemesis: &mut Nemesis, _sim: &mut Sim<'_>, now: Duration, fault: &Fault) -> Option<Undo> {
    let name = fault.hosts.first()?.clone();
    let host = nemesis.host(&name)?.clone();
    match fault.kind {
        // In milliseconds. Nobody sets the clock right again.
        Kind::ClockJump => {
            host.clock.jump(fault.amount * 1_000);
            None
        }
        // In parts per million. What it gained stays.
        Kind::ClockDrift => {
            host.clock.set_drift_ppm(now, fault.amount);
            Some(Box::new(move |nemesis, sim| nemesis.hosts[&name].clock.set_drift_ppm(sim.elapsed(), 0)))
        }
        // In milliseconds gained in each 200 ms.
        _ => {
            host.set_fast_timers_ms(fault.amount.unsigned_abs());
            Some(Box::new(move |nemesis, _| nemesis.hosts[&name].set_fast_timers_ms(0)))
        }
    }
}
