//! Many seeds, each in processes of its own: the proof that a seed decides its run, the figures, and which fault
//! points and sights no seed has reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::{self, Write},
    ops::RangeInclusive,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use keelstone_env::fault::{Point, Sight};

use crate::{Options, Plant, Scenario};

/// Which seeds, and how.
#[derive(Clone, Debug)]
pub struct Batch {
    pub seeds: RangeInclusive<u64>,
    pub scenario: Scenario,
    pub plant: Option<Plant>,
    /// So many of the first seeds run twice; the event hashes must be equal.
    pub twice: u64,
    /// Processes at one time.
    pub jobs: usize,
    /// No seed is begun after this.
    pub time_max: Option<Duration>,
    /// Seeds that are named in this file are left out; those that held are added to it.
    pub done: Option<PathBuf>,
}

/// What [`Batch::run`] saw.
#[derive(Debug, Default)]
pub struct Batched {
    pub seeds: u64,
    /// For each seed that failed: what its process said, or that two runs differed.
    pub failures: Vec<String>,
    pub simulated_s: f64,
    pub wall_s: f64,
    points: BTreeMap<String, u64>,
    sights: BTreeMap<String, u64>,
}

impl Batched {
    /// Fault points that no run has reached.
    pub fn points_missed(&self) -> Vec<&'static str> {
        Point::ALL.iter().map(|p| p.name()).filter(|name| !self.points.contains_key(*name)).collect()
    }

    /// Sights that no run has had.
    pub fn sights_missed(&self) -> Vec<&'static str> {
        Sight::ALL.iter().map(|s| s.name()).filter(|name| !self.sights.contains_key(*name)).collect()
    }

    fn take(&mut self, output: &Output) {
        let text = String::from_utf8_lossy(&output.stdout);
        self.simulated_s += field(&text, "simulated_s=").and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
        for (marker, counts) in [("points: ", &mut self.points), ("sights: ", &mut self.sights)] {
            let line = text.lines().find_map(|line| line.strip_prefix(marker)).unwrap_or_default();
            for (name, count) in line.split(';').filter_map(|part| part.rsplit_once('=')) {
                *counts.entry(name.to_owned()).or_default() += count.parse::<u64>().unwrap_or(0);
            }
        }
    }
}

/// One seed's processes.
struct Running {
    seed: u64,
    children: Vec<Child>,
}

impl Batch {
    /// Runs each seed in a fresh process, or in two at the same time.
    ///
    /// # Errors
    /// If a process cannot be started, or the file of done seeds not be written.
    #[allow(clippy::disallowed_methods, reason = "how long the runs take in the real world")]
    pub fn run(&self) -> io::Result<Batched> {
        let mut result = Batched::default();
        let done = self.done_before()?;
        let started = Instant::now();
        let mut running: Vec<Running> = Vec::new();
        for (i, seed) in self.seeds.clone().filter(|seed| !done.contains(seed)).enumerate() {
            if self.time_max.is_some_and(|max| started.elapsed() > max) {
                break;
            }
            if running.len() >= self.jobs.max(1) {
                self.end(running.remove(0), &mut result)?;
            }
            let copies = if (i as u64) < self.twice { 2 } else { 1 };
            let options = self.options(seed);
            let children = (0..copies).map(|_| start(&options)).collect::<io::Result<Vec<_>>>()?;
            running.push(Running { seed, children });
        }
        for seed in running {
            self.end(seed, &mut result)?;
        }
        result.wall_s = started.elapsed().as_secs_f64();
        Ok(result)
    }

    fn options(&self, seed: u64) -> Options {
        Options { plant: self.plant, ..Options::new(seed, self.scenario) }
    }

    fn end(&self, running: Running, result: &mut Batched) -> io::Result<()> {
        let seed = running.seed;
        let outputs = running.children.into_iter().map(Child::wait_with_output).collect::<io::Result<Vec<_>>>()?;
        result.seeds += 1;
        outputs.iter().for_each(|output| result.take(output));
        let text = String::from_utf8_lossy(&outputs[0].stdout);
        println!("{}", text.lines().next().unwrap_or_default());
        let hashes: Vec<Option<String>> =
            outputs.iter().map(|o| field(&String::from_utf8_lossy(&o.stdout), "hash=").map(str::to_owned)).collect();
        if let Some(failed) = outputs.iter().find(|output| !output.status.success()) {
            let error = String::from_utf8_lossy(&failed.stderr);
            eprint!("{error}");
            let replay = self.options(seed).replay();
            result.failures.push(format!("seed {seed} failed; run it again: {replay}"));
        } else if hashes.iter().any(|hash| hash.is_none() || *hash != hashes[0]) {
            result.failures.push(format!("seed {seed}: two runs of one seed differ: {hashes:?}"));
        } else {
            self.note_done(seed)?;
        }
        Ok(())
    }

    #[allow(clippy::disallowed_methods, reason = "the list lies outside of the simulated world")]
    fn done_before(&self) -> io::Result<BTreeSet<u64>> {
        let Some(path) = &self.done else { return Ok(BTreeSet::new()) };
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(error),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the list lies outside of the simulated world")]
    fn note_done(&self, seed: u64) -> io::Result<()> {
        let Some(path) = &self.done else { return Ok(()) };
        let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{seed}")
    }
}

/// Runs what `options` say in a process of its own.
#[allow(clippy::disallowed_methods, reason = "one seed per process")]
pub(crate) fn start(options: &Options) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--seed", &options.seed.to_string(), "--scenario", options.scenario.name(), "--counts"]);
    if let Some(plant) = options.plant {
        command.args(["--plant", plant.name()]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// The invariant that a run's process says to be broken, and what it says of it; `None` if it ended well.
pub(crate) fn broken(output: &Output) -> Option<(String, String)> {
    let said = String::from_utf8_lossy(&output.stderr);
    let story = said.split("violation: ").nth(1).filter(|_| !output.status.success())?;
    Some((story.split(": ").next().unwrap_or_default().to_owned(), story.to_owned()))
}

/// The word after `marker` in what a run printed.
fn field<'a>(text: &'a str, marker: &str) -> Option<&'a str> {
    text.split(marker).nth(1)?.split_whitespace().next()
}
