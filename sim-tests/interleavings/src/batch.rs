#![allow(clippy::disallowed_methods, reason = "one seed per process")]

use std::{
    collections::VecDeque,
    io,
    ops::RangeInclusive,
    process::{Child, Command, Output, Stdio},
};

use keelstone_env::bug::Bug;

/// Many seeds, each in a fresh process.
pub struct Batch {
    pub seeds: RangeInclusive<u64>,
    pub twice_first: u64,
    pub jobs: usize,
    pub plant: Option<Bug>,
}

/// One seed's processes.
struct Running {
    seed: u64,
    children: Vec<Child>,
}

impl Batch {
    /// True if all seeds held, and those that ran twice had equal hashes; with something planted, if a seed found it.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub fn run(&self) -> io::Result<bool> {
        let (mut seeds, mut failed, mut differ) = (0, 0, 0);
        let mut running = VecDeque::new();
        let mut todo = self.seeds.clone().enumerate();
        loop {
            while running.len() < self.jobs.max(1) {
                let Some((i, seed)) = todo.next() else { break };
                let copies = if (i as u64) < self.twice_first { 2 } else { 1 };
                let children = (0..copies).map(|_| self.start(seed)).collect::<io::Result<Vec<_>>>()?;
                running.push_back(Running { seed, children });
            }
            let Some(Running { seed, children }) = running.pop_front() else { break };
            let outputs = children.into_iter().map(Child::wait_with_output).collect::<io::Result<Vec<_>>>()?;
            seeds += 1;
            print!("{}", String::from_utf8_lossy(&outputs[0].stdout));
            if let Some(bad) = outputs.iter().find(|output| !output.status.success()) {
                failed += 1;
                eprint!("{}", String::from_utf8_lossy(&bad.stderr));
            } else if outputs.iter().any(|output| hash(output) != hash(&outputs[0])) {
                differ += 1;
                eprintln!("seed {seed}: two runs differ: {:?}", outputs.iter().map(hash).collect::<Vec<_>>());
            }
        }
        let twice = self.twice_first.min(seeds);
        println!("{seeds} seeds: {failed} failed; {differ} of the {twice} that ran twice had other hashes");
        Ok(match self.plant {
            None => failed == 0 && differ == 0,
            Some(_) => failed > 0,
        })
    }

    fn start(&self, seed: u64) -> io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--seed", &seed.to_string()]);
        if let Some(bug) = self.plant {
            command.args(["--plant", bug.id()]);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }
}

fn hash(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.split("hash=").nth(1)?.trim().to_owned())
}
