//! What a run does, as data: drawn from a seed, or read from a case file, which shrinking writes and which is
//! then run as a regression test.
//!
//! A case file is lines of `name value`; `#` begins a comment. `seed` and `scenario` come first and decide
//! whatever no other line says. If there is a `fault` line, the faults are exactly those:
//!
//! ```text
//! seed 7
//! scenario store
//! operations 120
//! load_ms 9000
//! workloads registers lease
//! knob kept_entries 1
//! fault 1500 +900 partition m1-m2 m1-m3
//! ```

mod knobs;

use std::{fmt, io};

pub use knobs::Knobs;

use keelstone_env::bug::Bug;
use keelstone_world::SeededRandom;

use crate::{
    constants::*,
    faults::{self, Fault, Kind},
    stack, store, Options, Plant, Scenario,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    /// Never [`Scenario::Mixed`].
    pub scenario: Scenario,
    pub plant: Option<Plant>,
    /// Client operations that the run does at least.
    pub operations_min: usize,
    /// The load goes on for so long at least.
    pub load_ms_min: u64,
    /// Names of the workloads that run.
    pub workloads: Vec<String>,
    pub knobs: Knobs,
    pub faults: Vec<Fault>,
    /// Read from a file: it may be as short as it likes.
    pub is_case: bool,
}

impl Plan {
    /// What the options' case file says, or else what their seed does.
    ///
    /// # Errors
    /// If the case file cannot be read.
    pub fn of(options: &Options) -> io::Result<Self> {
        match &options.case {
            None => Ok(Self::draw(options)),
            #[allow(clippy::disallowed_methods, reason = "the case lies outside of the simulated world")]
            Some(path) => Self::parse(&std::fs::read_to_string(path)?).map_err(io::Error::other),
        }
    }

    /// What a seed does.
    pub fn draw(options: &Options) -> Self {
        let scenario = options.scenario.of(options.seed);
        let hosts = match scenario {
            Scenario::Store => store::fault_hosts(),
            Scenario::Stack | Scenario::Mixed => stack::fault_hosts(),
        };
        let mut faults = faults::draw(options.seed, &hosts);
        // A store restored from an older copy is one whose disks had forgotten the newest writes.
        if matches!(options.plant, Some(Plant::LostWrite | Plant::Known(Bug::RestoreRewinds))) {
            plant_lost_write(&mut faults, &hosts);
        }
        let all = match scenario {
            Scenario::Store => store::workloads(),
            Scenario::Stack | Scenario::Mixed => stack::workloads(),
        };
        let random = SeededRandom::derive(options.seed, "workloads");
        // The first workload always runs: it says the most.
        let needed = |name: &str| options.plant == Some(Plant::SkippedWatch) && name == "watches";
        let drawn = all.iter().enumerate().filter(|(i, name)| *i == 0 || random.chance(65) || needed(name));
        Self {
            seed: options.seed,
            scenario,
            plant: options.plant,
            operations_min: OPERATIONS_MIN,
            load_ms_min: SAFETY_TIME_MIN.as_millis() as u64,
            workloads: drawn.map(|(_, name)| (*name).to_owned()).collect(),
            knobs: Knobs::draw(&SeededRandom::derive(options.seed, "knobs")),
            faults,
            is_case: false,
        }
    }

    /// Reads a case file.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = || text.lines().map(|line| line.split('#').next().unwrap_or("").trim()).filter(|l| !l.is_empty());
        let value_of = |name: &str| {
            let found = lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found.ok_or_else(|| format!("the line `{name} ...` is missing"))
        };
        let seed = value_of("seed")?.parse().map_err(|_| "the seed is not a number".to_owned())?;
        let scenario = match value_of("scenario")? {
            "store" => Scenario::Store,
            "stack" => Scenario::Stack,
            other => return Err(format!("there is no scenario {other:?}")),
        };
        let plant = value_of("plant").ok().map(Plant::parse).transpose()?;
        let mut plan = Self::draw(&Options { plant, ..Options::new(seed, scenario) });
        plan.is_case = true;
        if lines().any(|line| line.starts_with("fault ") || line == "faults none") {
            plan.faults.clear();
        }
        for line in lines() {
            plan.take(line).ok_or_else(|| format!("the line {line:?} cannot be read"))?;
        }
        Ok(plan)
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (name, value) = line.split_once(' ')?;
        match name {
            "seed" | "scenario" | "plant" | "faults" => {}
            "operations" => self.operations_min = value.parse().ok()?,
            "load_ms" => self.load_ms_min = value.parse().ok()?,
            "workloads" => self.workloads = value.split_whitespace().map(str::to_owned).collect(),
            "knob" => {
                let (name, number) = value.split_once(' ')?;
                return self.knobs.set(name, number.parse().ok()?).then_some(());
            }
            "fault" => self.faults.push(value.parse().ok()?),
            _ => return None,
        }
        Some(())
    }
}

/// The disks lie for a while and nothing else happens, then the power goes everywhere.
fn plant_lost_write(faults: &mut Vec<Fault>, hosts: &faults::Hosts) {
    let (from, to) = (LYING_BEGINS_MS, LYING_BEGINS_MS + LYING_MS);
    faults.retain(|fault| fault.at_ms + fault.for_ms < from || fault.at_ms > to + 1_000);
    let (links, masters) = (Vec::new(), hosts.masters.clone());
    faults.push(Fault { at_ms: from, for_ms: LYING_MS, kind: Kind::LyingSync, hosts: masters, links, amount: 0 });
    faults.sort_by_key(|fault| fault.at_ms);
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}\nscenario {}", self.seed, self.scenario.name())?;
        if let Some(plant) = self.plant {
            writeln!(f, "plant {}", plant.name())?;
        }
        writeln!(f, "operations {}\nload_ms {}", self.operations_min, self.load_ms_min)?;
        writeln!(f, "workloads {}", self.workloads.join(" "))?;
        self.knobs.list().iter().try_for_each(|(name, value)| writeln!(f, "knob {name} {value}"))?;
        if self.faults.is_empty() {
            writeln!(f, "faults none")?;
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "fault {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_back_as_it_was_written() {
        for seed in 1..12 {
            for plant in [None, Some(Plant::LostWrite)] {
                let options = Options { plant, ..Options::new(seed, Scenario::Mixed) };
                let plan = Plan { is_case: true, ..Plan::draw(&options) };
                assert_eq!(Plan::parse(&plan.to_string()).unwrap(), plan);
            }
        }
    }

    #[test]
    fn what_a_case_does_not_say_its_seed_decides() {
        let drawn = Plan::parse("seed 3\nscenario store").unwrap();
        let text = "# a case\nseed 3\nscenario store # three members\nknob kept_entries 1\nfaults none";
        let case = Plan::parse(text).unwrap();
        assert_eq!((case.knobs.kept_entries, case.faults.len()), (1, 0));
        assert!(!drawn.faults.is_empty());
        assert_eq!(case.workloads, drawn.workloads);
    }

    #[test]
    fn wrong_lines_are_named() {
        for wrong in [
            "scenario store",
            "seed 1",
            "seed 1\nscenario x",
            "seed 1\nscenario store\nknob a 1",
            "seed 1\nscenario store\nfault x",
        ] {
            assert!(Plan::parse(wrong).is_err(), "{wrong}");
        }
    }
}
