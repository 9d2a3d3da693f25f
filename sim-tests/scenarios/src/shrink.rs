//! Makes a failing case smaller: fewer faults, workloads, unusual settings and operations, as long as the same
//! invariant is broken. Every trial is a process of its own.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    batch,
    plan::{Knobs, Plan},
    Options,
};

/// How a shrinking ended.
#[derive(Debug)]
pub struct Shrunk {
    pub plan: Plan,
    pub invariant: String,
    /// What the smallest case said.
    pub story: String,
    pub trials: u64,
}

/// Shrinks what `options` runs, with at most `trials_max` runs. `None`: it does not fail.
///
/// # Errors
/// If a process cannot be started, or its case file not be written.
pub fn shrink(options: &Options, trials_max: u64) -> io::Result<Option<Shrunk>> {
    let plan = Plan { is_case: true, ..Plan::of(options)? };
    let mut shrinker = Shrinker { plan, invariant: String::new(), story: String::new(), trials: 0, trials_max };
    match shrinker.broken(&shrinker.plan.clone())? {
        None => return Ok(None),
        Some((invariant, story)) => (shrinker.invariant, shrinker.story) = (invariant, story),
    }
    loop {
        let before = shrinker.plan.clone();
        shrinker.fewer_faults()?;
        shrinker.fewer_workloads()?;
        shrinker.usual_knobs()?;
        shrinker.less_load()?;
        if shrinker.plan == before || shrinker.trials >= trials_max {
            break;
        }
    }
    let Shrinker { plan, invariant, story, trials, .. } = shrinker;
    Ok(Some(Shrunk { plan, invariant, story, trials }))
}

struct Shrinker {
    /// The smallest that fails so far.
    plan: Plan,
    invariant: String,
    story: String,
    trials: u64,
    trials_max: u64,
}

impl Shrinker {
    /// The invariant that a plan breaks, and what was said of it.
    #[allow(clippy::disallowed_methods, reason = "one run per process")]
    fn broken(&mut self, plan: &Plan) -> io::Result<Option<(String, String)>> {
        self.trials += 1;
        let path = std::env::temp_dir().join(format!("keelstone-sim-shrink-{}.txt", std::process::id()));
        std::fs::write(&path, plan.to_string())?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--case").arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = command.output()?;
        std::fs::remove_file(&path)?;
        Ok(batch::broken(&output))
    }

    /// Takes the plan over if it breaks the same invariant.
    fn accept(&mut self, plan: Plan) -> io::Result<bool> {
        if self.trials >= self.trials_max || plan == self.plan {
            return Ok(false);
        }
        match self.broken(&plan)? {
            Some((invariant, story)) if invariant == self.invariant => {
                eprintln!(
                    "trial {}: {} faults, workloads {}, {} operations",
                    self.trials,
                    plan.faults.len(),
                    plan.workloads.join(" "),
                    plan.operations_min
                );
                (self.plan, self.story) = (plan, story);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Leaves out ever smaller parts of the schedule (delta debugging, Zeller and Hildebrandt 2002).
    fn fewer_faults(&mut self) -> io::Result<()> {
        let mut part = self.plan.faults.len().max(1);
        while part > 0 {
            let mut start = 0;
            while start < self.plan.faults.len() {
                let mut fewer = self.plan.clone();
                let end = (start + part).min(fewer.faults.len());
                fewer.faults.drain(start..end);
                if !self.accept(fewer)? {
                    start += part;
                }
            }
            part /= 2;
        }
        Ok(())
    }

    fn fewer_workloads(&mut self) -> io::Result<()> {
        for name in self.plan.workloads.clone() {
            let mut fewer = self.plan.clone();
            fewer.workloads.retain(|other| *other != name);
            if !fewer.workloads.is_empty() {
                self.accept(fewer)?;
            }
        }
        Ok(())
    }

    fn usual_knobs(&mut self) -> io::Result<()> {
        for (name, value) in Knobs::usual().list() {
            let mut usual = self.plan.clone();
            usual.knobs.set(name, value);
            self.accept(usual)?;
        }
        Ok(())
    }

    fn less_load(&mut self) -> io::Result<()> {
        loop {
            let mut less = self.plan.clone();
            less.operations_min /= 2;
            if less.operations_min == 0 || !self.accept(less)? {
                break;
            }
        }
        loop {
            let mut less = self.plan.clone();
            less.load_ms_min = less.load_ms_min * 2 / 3;
            if less.load_ms_min < 500 || !self.accept(less)? {
                return Ok(());
            }
        }
    }
}

/// Writes a case with what it is about.
///
/// # Errors
/// If the file cannot be written.
#[allow(clippy::disallowed_methods, reason = "cases lie outside of the simulated world")]
pub fn write_case(path: &Path, shrunk: &Shrunk) -> io::Result<()> {
    let first = shrunk.story.lines().next().unwrap_or_default();
    let told: String = first.chars().take(300).collect();
    std::fs::write(path, format!("# Broke: {told}\n{}", shrunk.plan))
}
