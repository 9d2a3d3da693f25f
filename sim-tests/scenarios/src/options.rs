use std::path::PathBuf;

use keelstone_env::bug::Bug;

/// What runs on the simulated hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Three members of the store and clients.
    Store,
    /// Whole masters, workers and a user of the API.
    Stack,
    /// Stack for every fifth seed, else store.
    Mixed,
}

impl Scenario {
    /// What this seed runs.
    pub fn of(self, seed: u64) -> Self {
        match self {
            Self::Mixed if seed.is_multiple_of(5) => Self::Stack,
            Self::Mixed => Self::Store,
            other => other,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Stack => "stack",
            Self::Mixed => "mixed",
        }
    }
}

/// A defect put in on purpose, which the checks must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The masters' disks answer syncs without doing anything for a while; then the power goes everywhere.
    LostWrite,
    /// A watch leaves out an answer.
    SkippedWatch,
    /// A known bug of another system is put back.
    Known(Bug),
}

impl Plant {
    /// # Errors
    /// If there is no such defect.
    pub fn parse(name: &str) -> Result<Self, String> {
        let known = Bug::ALL.iter().map(|bug| Self::Known(*bug));
        let mut all = [Self::LostWrite, Self::SkippedWatch].into_iter().chain(known);
        all.find(|plant| plant.name() == name).ok_or_else(|| format!("there is no plant {name:?}"))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::LostWrite => "lost-write",
            Self::SkippedWatch => "skipped-watch",
            Self::Known(bug) => bug.id(),
        }
    }
}

/// What one run does.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub scenario: Scenario,
    pub plant: Option<Plant>,
    /// Every hashed event goes there as a line of text.
    pub dump: Option<PathBuf>,
    /// What happened goes there, for people: `*.html` or JSON lines.
    pub trace: Option<PathBuf>,
    /// The plan is read from this file; its seed and scenario count.
    pub case: Option<PathBuf>,
}

impl Options {
    /// A seed of a scenario, and nothing special.
    pub fn new(seed: u64, scenario: Scenario) -> Self {
        Self { seed, scenario, plant: None, dump: None, trace: None, case: None }
    }

    /// The one command that runs this again.
    pub fn replay(&self) -> String {
        if let Some(case) = &self.case {
            return format!("cargo run -p keelstone-sim -- --case {}", case.display());
        }
        let plant = self.plant.map(|p| format!(" --plant {}", p.name())).unwrap_or_default();
        let scenario = self.scenario.of(self.seed).name();
        format!("cargo run -p keelstone-sim -- --seed {} --scenario {scenario}{plant}", self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replay_command_names_what_ran() {
        let options = Options { plant: Some(Plant::LostWrite), ..Options::new(10, Scenario::Mixed) };
        assert_eq!(options.replay(), "cargo run -p keelstone-sim -- --seed 10 --scenario stack --plant lost-write");
        assert_eq!(Scenario::Mixed.of(11), Scenario::Store);
    }
}
