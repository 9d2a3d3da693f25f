//! `keelstone-sim`: runs one seed, or many seeds in processes of their own.

use std::{ops::RangeInclusive, path::PathBuf, process::ExitCode, time::Instant};

use clap::Parser;
use keelstone_sim::{run, run_twice, Options, Plant, Scenario};

/// Deep futures of a debug build need more than a thread's usual stack.
const STACK_BYTES: usize = 256 << 20;

/// Simulates Keelstone under faults that a seed decides, and checks its invariants.
#[derive(Parser)]
#[command(name = "keelstone-sim", version)]
struct Arguments {
    /// Run this one seed in this process.
    #[arg(long, required_unless_present = "seeds")]
    seed: Option<u64>,
    /// Run these seeds (`A..B`, both included), each in a process of its own.
    #[arg(long, value_parser = range, conflicts_with = "seed")]
    seeds: Option<RangeInclusive<u64>>,
    /// With --seeds: run each seed twice; the event hashes must be equal.
    #[arg(long, requires = "seeds")]
    twice: bool,
    #[arg(long, value_enum, default_value = "mixed")]
    scenario: Scenario,
    /// Put a defect in, which the checks must find.
    #[arg(long, value_enum)]
    plant: Option<Plant>,
    /// With --seed: write every hashed event to this file.
    #[arg(long, requires = "seed")]
    dump: Option<PathBuf>,
}

fn range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let read = |part: &str| part.parse::<u64>().map_err(|_| format!("{text:?} is not A..B"));
    let (first, last) = text.split_once("..").ok_or_else(|| format!("{text:?} is not A..B"))?;
    let (first, last) = (read(first)?, read(last)?);
    if first > last {
        return Err(format!("{text:?}: the first seed is above the last"));
    }
    Ok(first..=last)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.seed, &arguments.seeds) {
        (_, Some(seeds)) => many(&arguments, seeds.clone()),
        (Some(seed), None) => {
            let Arguments { scenario, plant, dump, .. } = arguments;
            one(&Options { plant, dump, ..Options::new(seed, scenario) })
        }
        (None, None) => ExitCode::from(2),
    }
}

fn one(options: &Options) -> ExitCode {
    #[allow(clippy::disallowed_methods, reason = "how long the run took in the real world")]
    let started = Instant::now();
    let ended = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, || run(options)).map(|running| running.join())
    });
    let (name, seed) = (options.scenario.of(options.seed).name(), options.seed);
    let story = match ended {
        Ok(Ok(Ok(ended))) => {
            let wall_s = started.elapsed().as_secs_f64();
            let plant = options.plant.map(|p| format!(" plant={}", p.name())).unwrap_or_default();
            println!("seed={seed} scenario={name}{plant} | {} wall_s={wall_s:.1}", ended.report);
            match ended.violation {
                None => return ExitCode::SUCCESS,
                Some(violation) => format!("violation: {violation}"),
            }
        }
        Ok(Ok(Err(error))) | Err(error) => format!("the run could not start: {error}"),
        Ok(Err(_)) => "violation: the code under test panicked (see above)".to_owned(),
    };
    eprintln!("seed {seed} ({name}): {story}\nrun it again: {}", options.replay());
    ExitCode::FAILURE
}

fn many(arguments: &Arguments, seeds: RangeInclusive<u64>) -> ExitCode {
    #[allow(clippy::disallowed_methods, reason = "how long the runs took in the real world")]
    let started = Instant::now();
    match run_twice(seeds, arguments.scenario, arguments.plant, arguments.twice) {
        Err(error) => {
            eprintln!("a process could not be started: {error}");
            ExitCode::FAILURE
        }
        Ok(result) => {
            let runs = if arguments.twice { "two runs each, equal hashes" } else { "one run each" };
            let failed = result.failures.len();
            let wall_s = started.elapsed().as_secs_f64();
            println!("{} seeds, {runs}: {failed} failed, {wall_s:.0} s", result.seeds);
            result.failures.iter().for_each(|failure| eprintln!("{failure}"));
            if failed == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
