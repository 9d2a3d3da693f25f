//! Many seeds, each in processes of its own, and the proof that a seed decides its run.

use std::{
    io,
    process::{Child, Command, Output, Stdio},
};

use crate::{Options, Plant, Scenario};

/// What [`run_twice`] saw.
#[derive(Debug, Default)]
pub struct Twice {
    pub seeds: u64,
    /// For each seed that failed: what its process said, or that two runs differed.
    pub failures: Vec<String>,
}

/// Runs each seed in a fresh process, or in two at the same time (`twice`) whose event hashes must be equal.
///
/// # Errors
/// If a process cannot be started.
pub fn run_twice(
    seeds: std::ops::RangeInclusive<u64>,
    scenario: Scenario,
    plant: Option<Plant>,
    twice: bool,
) -> io::Result<Twice> {
    let mut result = Twice::default();
    for seed in seeds {
        let options = Options { plant, ..Options::new(seed, scenario) };
        let children = (0..if twice { 2 } else { 1 }).map(|_| start(&options)).collect::<io::Result<Vec<_>>>()?;
        let outputs = children.into_iter().map(Child::wait_with_output).collect::<io::Result<Vec<_>>>()?;
        result.seeds += 1;
        let hashes: Vec<Option<String>> = outputs.iter().map(hash).collect();
        print!("{}", String::from_utf8_lossy(&outputs[0].stdout));
        if let Some(failed) = outputs.iter().find(|output| !output.status.success()) {
            let error = String::from_utf8_lossy(&failed.stderr);
            eprint!("{error}");
            result.failures.push(format!("seed {seed} failed; run it again: {}", options.replay()));
        } else if hashes.iter().any(|hash| hash.is_none() || *hash != hashes[0]) {
            result.failures.push(format!("seed {seed}: two runs of one seed differ: {hashes:?}"));
        }
    }
    Ok(result)
}

#[allow(clippy::disallowed_methods, reason = "one seed per process")]
fn start(options: &Options) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--seed", &options.seed.to_string(), "--scenario", options.scenario.name()]);
    if let Some(plant) = options.plant {
        command.args(["--plant", plant.name()]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// The event hash that a run printed.
fn hash(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.split("hash=").nth(1)?.split_whitespace().next()?.to_owned())
}
