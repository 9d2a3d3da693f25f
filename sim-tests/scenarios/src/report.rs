use std::{collections::BTreeMap, fmt};

use keelstone_checkers::Violation;

use crate::constants::{FAULT_KINDS_MIN, OPERATIONS_MIN};

/// The figures of one run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub operations: usize,
    pub known: usize,
    pub failed: usize,
    pub unknown: usize,
    /// How often each kind of fault fired.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often something worth knowing happened: a change of leader, a watch resumed.
    pub seen: BTreeMap<&'static str, u64>,
    /// How often each fault point of the product was reached.
    pub points: BTreeMap<&'static str, u64>,
    /// Rare things that the product's fault points tell.
    pub sights: BTreeMap<&'static str, u64>,
    pub simulated_s: f64,
    pub events: u64,
    pub hash: u64,
}

impl Report {
    /// # Errors
    /// If the run did too little to say anything.
    pub fn check_effort(&self) -> Result<(), Violation> {
        if self.operations < OPERATIONS_MIN {
            let story = format!("{} operations, at least {OPERATIONS_MIN} are wanted", self.operations);
            return Err(Violation::new("effort", story));
        }
        if self.faults.len() < FAULT_KINDS_MIN {
            let story = format!("fault kinds that fired: {:?}, at least {FAULT_KINDS_MIN} are wanted", self.faults);
            return Err(Violation::new("effort", story));
        }
        Ok(())
    }
}

impl Report {
    /// Fault points and sights with their counts, as two lines.
    pub fn counts(&self) -> String {
        let list = |counts: &BTreeMap<&'static str, u64>| {
            let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{name}={count}")).collect();
            parts.join(";")
        };
        format!("points: {}\nsights: {}", list(&self.points), list(&self.sights))
    }
}

fn counts(f: &mut fmt::Formatter<'_>, counts: &BTreeMap<&'static str, u64>) -> fmt::Result {
    counts.iter().try_for_each(|(name, count)| write!(f, " {name}={count}"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, known, failed, unknown, .. } = self;
        write!(f, "operations={operations} known={known} failed={failed} unknown={unknown} | faults")?;
        counts(f, &self.faults)?;
        write!(f, " | seen")?;
        counts(f, &self.seen)?;
        write!(f, " | simulated_s={:.1} events={} hash={:016x}", self.simulated_s, self.events, self.hash)
    }
}
