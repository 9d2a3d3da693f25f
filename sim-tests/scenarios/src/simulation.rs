use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use keelstone_checkers::Violation;
use keelstone_world::{EventHash, Host, EPOCH_UNIX_S};
use turmoil::Sim;

use crate::{constants::*, faults::Nemesis, trace::Trace};

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Load and faults.
    #[default]
    Load,
    /// The clients have ended; the faults are to be repaired.
    LoadEnded,
    /// All faults are repaired.
    Healed,
}

/// What the scenario's tasks and the loop that drives the simulation tell each other.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    stage: Stage,
    violation: Option<Violation>,
    seen: BTreeMap<&'static str, u64>,
    hash: EventHash,
    trace: Option<Trace>,
    /// Processes that ended by themselves, and why, until their supervisor takes note.
    exits: Vec<(String, String)>,
    /// Hosts that a scenario wants to be down, and for how long.
    outages: Vec<(String, Duration)>,
    /// Hosts that stay away because their disk is damaged for good.
    away: BTreeSet<String>,
}

impl Shared {
    pub fn new(hash: EventHash, trace: Option<Trace>) -> Self {
        Self(Arc::new(Mutex::new(State { hash, trace, ..State::default() })))
    }

    pub fn stage(&self) -> Stage {
        self.state().stage
    }

    pub fn set_stage(&self, stage: Stage) {
        self.state().stage = stage;
    }

    /// Keeps the first violation.
    pub fn violated(&self, violation: Violation) {
        self.state().violation.get_or_insert(violation);
    }

    pub fn violation(&self) -> Option<Violation> {
        self.state().violation.clone()
    }

    /// Counts something worth knowing.
    pub fn saw(&self, what: &'static str) {
        *self.state().seen.entry(what).or_default() += 1;
    }

    pub fn seen(&self) -> BTreeMap<&'static str, u64> {
        self.state().seen.clone()
    }

    /// This host's process has ended by itself.
    pub fn exited(&self, host: &str, error: &str) {
        self.hash(&format!("{host} ended by itself: {error}"));
        self.state().exits.push((host.to_owned(), error.to_owned()));
    }

    pub fn take_exits(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.state().exits)
    }

    /// After the faults: this host's process ends, and is started again after a time.
    pub fn ask_outage(&self, host: &str, lasting: Duration) {
        self.state().outages.push((host.to_owned(), lasting));
    }

    /// True for a host that refuses its damaged disk.
    pub fn is_away(&self, host: &str) -> bool {
        self.state().away.contains(host)
    }

    /// Adds a client's answer to the event hash.
    pub fn hash(&self, text: &str) {
        let state = self.state();
        state.hash.add(text);
        if let Some(trace) = &state.trace {
            trace.client(text);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the state is locked")
    }
}

/// turmoil as every scenario wants it.
pub fn build<'a>(seed: u64) -> Sim<'a> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH_UNIX_S))
        .simulation_duration(SIMULATED_TIME_MAX)
        .tick_duration(TICK)
        .min_message_latency(LATENCY_MIN)
        .max_message_latency(LATENCY_MAX)
        .ephemeral_ports(10_000..=65_000)
        .tcp_capacity(TCP_CAPACITY)
        .enable_random_order()
        .build()
}

/// The hosts of a run by name, each with its own disk and clock.
pub fn hosts(seed: u64, names: impl IntoIterator<Item = String>) -> BTreeMap<String, Host> {
    names.into_iter().map(|name| (name.clone(), Host::new(seed, &name, CLOCK_SKEW_MS_MAX))).collect()
}

/// Drives the simulation until the scenario's client has ended or an invariant is broken. `observe` looks at
/// the hosts from outside between two ticks.
pub fn drive(
    sim: &mut Sim<'_>,
    nemesis: &mut Nemesis,
    shared: &Shared,
    mut observe: impl FnMut(Duration) -> Result<(), Violation>,
) -> Result<(), Violation> {
    loop {
        let ended = sim
            .step()
            .map_err(|error| shared.violation().unwrap_or_else(|| Violation::new("a host ended", error.to_string())))?;
        if let Some(violation) = shared.violation() {
            return Err(violation);
        }
        let now = sim.elapsed();
        supervise(sim, nemesis, shared, now)?;
        match shared.stage() {
            Stage::Load if now > SAFETY_TIME_MAX => {
                return Err(Violation::new("availability", format!("the load has not ended after {now:?}")));
            }
            Stage::Load => nemesis.step(sim, now),
            Stage::LoadEnded => {
                nemesis.heal(sim);
                shared.set_stage(Stage::Healed);
            }
            Stage::Healed => {
                for (host, lasting) in std::mem::take(&mut shared.state().outages) {
                    nemesis.outage(sim, &host, now + lasting);
                }
                nemesis.start_due(sim, now);
                nemesis.operate(sim, now);
            }
        }
        observe(now)?;
        if ended {
            return Ok(());
        }
    }
}

/// Has processes that ended by themselves started again; ending needs a reason.
fn supervise(sim: &mut Sim<'_>, nemesis: &mut Nemesis, shared: &Shared, now: Duration) -> Result<(), Violation> {
    for (host, error) in shared.take_exits() {
        let excused = nemesis.exited(sim, &host, now);
        if !excused {
            return Err(Violation::new("a process ended", format!("{host}: {error}")));
        }
        if nemesis.is_damaged(&host) {
            shared.state().away.insert(host);
        }
        shared.saw("process_exits");
    }
    Ok(())
}
