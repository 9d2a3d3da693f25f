//! The collection of known bugs: each is put back, and the seeds that the checks need to find it are counted.

use std::{
    collections::{btree_map::Entry, BTreeMap},
    fmt, io,
};

use keelstone_env::bug::Bug;

use crate::{batch, shrink, Options, Plant, Scenario};

/// Samples begin at seeds so far apart, so that none of them shares a seed with another.
const SAMPLE_SEEDS: u64 = 10_000;

/// How hard is looked.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// Only this one.
    pub only: Option<Bug>,
    /// How often each bug is looked for, each time with other seeds.
    pub samples: u64,
    /// Seeds per sample at most.
    pub seeds_max: u64,
    /// Runs spent on making the first finding of each bug smaller; 0: none.
    pub shrink_trials: u64,
}

/// What became of one bug.
#[derive(Debug)]
pub struct Finding {
    pub bug: Bug,
    /// Seeds needed, per sample; `None`: not found.
    pub needed: Vec<Option<u64>>,
    /// The invariants that it broke, with how often.
    pub invariants: BTreeMap<String, u64>,
    /// Faults and client operations of the smallest case.
    pub smallest: Option<(usize, usize)>,
}

impl Finding {
    pub fn found(&self) -> bool {
        self.needed.iter().all(Option::is_some)
    }

    /// Seeds that `percent` of the samples needed at most, by nearest rank.
    fn percentile(&self, percent: usize) -> Option<u64> {
        let mut needed: Vec<u64> = self.needed.iter().flatten().copied().collect();
        needed.sort_unstable();
        let rank = (needed.len() * percent).div_ceil(100).max(1);
        needed.get(rank - 1).copied()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hits = self.needed.iter().flatten().count();
        write!(f, "{:<14} found {hits}/{}", self.bug.id(), self.needed.len())?;
        if let (Some(median), Some(most)) = (self.percentile(50), self.percentile(95)) {
            write!(f, " | seeds: median {median}, p95 {most}")?;
        }
        let by: Vec<String> = self.invariants.iter().map(|(name, count)| format!("{name} ({count})")).collect();
        write!(f, " | by {}", if by.is_empty() { "nothing".to_owned() } else { by.join(", ") })?;
        if let Some((faults, operations)) = self.smallest {
            write!(f, " | smallest case: {faults} faults, {operations} operations")?;
        }
        Ok(())
    }
}

/// The scenario in which the bug's component runs.
fn scenario(bug: Bug) -> Scenario {
    if bug.id().starts_with("k8s-") {
        Scenario::Stack
    } else {
        Scenario::Store
    }
}

impl Hunt {
    /// Looks for every bug; `each` is told as soon as one is done.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub fn run(&self, mut each: impl FnMut(&Finding)) -> io::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut silent = BTreeMap::new();
        for bug in Bug::ALL.iter().copied().filter(|bug| self.only.is_none_or(|only| only == *bug)) {
            let finding = self.look_for(bug, &mut silent)?;
            each(&finding);
            findings.push(finding);
        }
        Ok(findings)
    }

    /// `silent` remembers which seeds hold without a bug.
    fn look_for(&self, bug: Bug, silent: &mut BTreeMap<(&'static str, u64), bool>) -> io::Result<Finding> {
        let mut finding = Finding { bug, needed: Vec::new(), invariants: BTreeMap::new(), smallest: None };
        for sample in 0..self.samples {
            let first = sample * SAMPLE_SEEDS + 1;
            let mut needed = None;
            for seed in first..first + self.seeds_max {
                let options = Options { plant: Some(Plant::Known(bug)), ..Options::new(seed, scenario(bug)) };
                let Some(invariant) = broken(&options)? else { continue };
                // A seed that fails without the bug says nothing of it.
                let is_silent = match silent.entry((options.scenario.name(), seed)) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(place) => {
                        *place.insert(broken(&Options { plant: None, ..options.clone() })?.is_none())
                    }
                };
                if !is_silent {
                    continue;
                }
                *finding.invariants.entry(invariant).or_default() += 1;
                needed = Some(seed - first + 1);
                if finding.smallest.is_none() && self.shrink_trials > 0 {
                    let shrunk = shrink(&options, self.shrink_trials)?;
                    finding.smallest = shrunk.map(|s| (s.plan.faults.len(), s.plan.operations_min));
                }
                break;
            }
            finding.needed.push(needed);
        }
        Ok(finding)
    }
}

/// The invariant that a run breaks. One that did too little has found nothing.
fn broken(options: &Options) -> io::Result<Option<String>> {
    let output = batch::start(options)?.wait_with_output()?;
    Ok(batch::broken(&output).map(|(invariant, _)| invariant).filter(|name| name != "effort"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_found() {
        let needed = vec![Some(9), Some(1), None, Some(3), Some(2)];
        let invariants = BTreeMap::from([("durability".to_owned(), 4)]);
        let finding = Finding { bug: Bug::FlushedBeforeSync, needed, invariants, smallest: Some((1, 20)) };
        assert_eq!((finding.percentile(50), finding.percentile(95)), (Some(2), Some(9)));
        assert!(!finding.found());
        let told = finding.to_string();
        assert!(told.contains("found 4/5 | seeds: median 2, p95 9 | by durability (4)"), "{told}");
    }
}
