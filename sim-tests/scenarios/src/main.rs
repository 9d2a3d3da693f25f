//! `keelstone-sim`: runs one seed, or many seeds in processes of their own.

use std::{ops::RangeInclusive, path::PathBuf, process::ExitCode, time::Duration, time::Instant};

use clap::Parser;
// glibc's allocator gives memory back to the kernel and takes it again all the time: a seventh of a run.
use keelstone_allocator as _;
use keelstone_env::bug::Bug;
use keelstone_sim::{run, shrink, write_case, Batch, Hunt, Options, Plan, Plant, Scenario};

/// Deep futures of a debug build need more than a thread's usual stack.
const STACK_BYTES: usize = 256 << 20;

/// Simulates Keelstone under faults that a seed decides, and checks its invariants.
#[derive(Parser)]
#[command(name = "keelstone-sim", version)]
struct Arguments {
    /// Run this one seed in this process.
    #[arg(long, required_unless_present_any = ["seeds", "case", "bugs"])]
    seed: Option<u64>,
    /// Run these seeds (`A..B`, both included), each in a process of its own.
    #[arg(long, value_parser = range, conflicts_with_all = ["seed", "case"])]
    seeds: Option<RangeInclusive<u64>>,
    /// Run what this case file says.
    #[arg(long, conflicts_with = "seed")]
    case: Option<PathBuf>,
    /// With --seeds: run each seed twice; the event hashes must be equal.
    #[arg(long, requires = "seeds")]
    twice: bool,
    /// With --seeds: run only so many of the first seeds twice.
    #[arg(long, requires = "seeds", default_value_t = 0)]
    twice_first: u64,
    /// With --seeds: so many processes at one time.
    #[arg(long, requires = "seeds", default_value_t = 1)]
    jobs: usize,
    /// With --seeds: begin no seed after so many seconds.
    #[arg(long, requires = "seeds")]
    seconds_max: Option<u64>,
    /// With --seeds: leave out the seeds named in this file, and add those that held.
    #[arg(long, requires = "seeds")]
    done: Option<PathBuf>,
    /// With --seeds: fail if a fault point or a sight was reached by no seed.
    #[arg(long, requires = "seeds")]
    demand_all: bool,
    #[arg(long, value_enum, default_value = "mixed")]
    scenario: Scenario,
    /// Put a defect in, which the checks must find.
    #[arg(long, value_parser = Plant::parse)]
    plant: Option<Plant>,
    /// Put every known bug back, one at a time, and count the seeds that are needed to find it.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "case", "plant"])]
    bugs: bool,
    /// With --bugs: only this one, by its id.
    #[arg(long, requires = "bugs", value_parser = bug)]
    only: Option<Bug>,
    /// With --bugs: look for each so often, each time with other seeds.
    #[arg(long, requires = "bugs", default_value_t = 5)]
    samples: u64,
    /// With --bugs: seeds per sample at most.
    #[arg(long, requires = "bugs", default_value_t = 200)]
    seeds_max: u64,
    /// Write every hashed event to this file.
    #[arg(long, conflicts_with = "seeds")]
    dump: Option<PathBuf>,
    /// Write what happened to this file: a page if it ends in .html, else JSON lines.
    #[arg(long, conflicts_with = "seeds")]
    trace: Option<PathBuf>,
    /// Print the plan (a case file) and run nothing.
    #[arg(long, conflicts_with = "seeds")]
    print_plan: bool,
    /// If it fails, make the case smaller and write it to this file.
    #[arg(long, conflicts_with = "seeds")]
    shrink: Option<PathBuf>,
    /// With --shrink, or for each bug: runs at most.
    #[arg(long, default_value_t = 150)]
    shrink_trials: u64,
    /// Print how often each fault point was reached and each sight seen.
    #[arg(long)]
    counts: bool,
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

fn bug(id: &str) -> Result<Bug, String> {
    Bug::by_id(id).ok_or_else(|| {
        let known: Vec<&str> = Bug::ALL.iter().map(|bug| bug.id()).collect();
        format!("known are {}", known.join(", "))
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.bugs {
        return hunt(&arguments);
    }
    if let Some(seeds) = &arguments.seeds {
        return many(&arguments, seeds.clone());
    }
    let Arguments { scenario, plant, dump, trace, case, .. } = &arguments;
    let mut options = Options::new(arguments.seed.unwrap_or(0), *scenario);
    (options.plant, options.dump, options.trace) = (*plant, dump.clone(), trace.clone());
    options.case.clone_from(case);
    let plan = match Plan::of(&options) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("the plan cannot be read: {error}");
            return ExitCode::from(2);
        }
    };
    (options.seed, options.scenario) = (plan.seed, plan.scenario);
    match &arguments.shrink {
        _ if arguments.print_plan => {
            print!("{plan}");
            ExitCode::SUCCESS
        }
        Some(path) => smaller(&arguments, &options, path),
        None => one(&options, plan, arguments.counts),
    }
}

fn one(options: &Options, plan: Plan, counts: bool) -> ExitCode {
    #[allow(clippy::disallowed_methods, reason = "how long the run took in the real world")]
    let started = Instant::now();
    let (name, seed) = (plan.scenario.name(), plan.seed);
    let ended = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, || run(options, plan)).map(|running| running.join())
    });
    let story = match ended {
        Ok(Ok(Ok(ended))) => {
            let wall_s = started.elapsed().as_secs_f64();
            let plant = options.plant.map(|p| format!(" plant={}", p.name())).unwrap_or_default();
            println!("seed={seed} scenario={name}{plant} | {} wall_s={wall_s:.1}", ended.report);
            if counts {
                println!("{}", ended.report.counts());
            }
            match ended.violation {
                None => return ExitCode::SUCCESS,
                Some(violation) => format!("violation: {violation}"),
            }
        }
        Ok(Ok(Err(error))) | Err(error) => format!("the run could not start: {error}"),
        Ok(Err(_)) => "violation: panic: the code under test panicked (see above)".to_owned(),
    };
    eprintln!("seed {seed} ({name}, commit {}): {story}\nrun it again: {}", commit(), options.replay());
    ExitCode::FAILURE
}

fn hunt(arguments: &Arguments) -> ExitCode {
    let Arguments { only, samples, seeds_max, shrink_trials, .. } = *arguments;
    match (Hunt { only, samples, seeds_max, shrink_trials }).run(|finding| println!("{finding}")) {
        Err(error) => {
            eprintln!("a process could not be started: {error}");
            ExitCode::from(2)
        }
        Ok(findings) => {
            let found = findings.iter().filter(|finding| finding.found()).count();
            println!("{found} of {} known bugs were found in every sample", findings.len());
            if found == findings.len() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The commit of the working folder, with a `+` if something was changed since.
#[allow(clippy::disallowed_methods, reason = "asks git after the run")]
fn commit() -> String {
    let git = std::process::Command::new("git").args(["describe", "--always", "--dirty=+"]).output();
    let text = git.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    match String::from_utf8_lossy(&text).trim() {
        "" => "unknown".to_owned(),
        commit => commit.to_owned(),
    }
}

fn smaller(arguments: &Arguments, options: &Options, path: &std::path::Path) -> ExitCode {
    match shrink(options, arguments.shrink_trials) {
        Err(error) => {
            eprintln!("a trial could not be run: {error}");
            ExitCode::from(2)
        }
        Ok(None) => {
            println!("it holds: there is nothing to shrink");
            ExitCode::SUCCESS
        }
        Ok(Some(shrunk)) => {
            if let Err(error) = write_case(path, &shrunk) {
                eprintln!("the case could not be written: {error}");
                return ExitCode::from(2);
            }
            let (faults, trials) = (shrunk.plan.faults.len(), shrunk.trials);
            println!("after {trials} trials: {faults} faults, in {}\n{}", path.display(), shrunk.plan);
            eprintln!("violation: {}", shrunk.story);
            ExitCode::FAILURE
        }
    }
}

fn many(arguments: &Arguments, seeds: RangeInclusive<u64>) -> ExitCode {
    let batch = Batch {
        seeds,
        scenario: arguments.scenario,
        plant: arguments.plant,
        twice: if arguments.twice { u64::MAX } else { arguments.twice_first },
        jobs: arguments.jobs,
        time_max: arguments.seconds_max.map(Duration::from_secs),
        done: arguments.done.clone(),
    };
    match batch.run() {
        Err(error) => {
            eprintln!("a process could not be started: {error}");
            ExitCode::FAILURE
        }
        Ok(result) => {
            let (points, sights) = (result.points_missed(), result.sights_missed());
            println!("fault points that no seed reached: {points:?}\nsights that no seed had: {sights:?}");
            let hours = (result.wall_s / 3_600.0).max(f64::MIN_POSITIVE);
            println!(
                "{} seeds ({} of them twice, equal hashes): {} failed; {:.0} s, {:.0} seeds an hour, {:.2} simulated days, \
                 {:.1} simulated s per wall s",
                result.seeds,
                batch.twice.min(result.seeds),
                result.failures.len(),
                result.wall_s,
                result.seeds as f64 / hours,
                result.simulated_s / 86_400.0,
                result.simulated_s / result.wall_s.max(f64::MIN_POSITIVE),
            );
            result.failures.iter().for_each(|failure| eprintln!("{failure}"));
            let missed = arguments.demand_all && !(points.is_empty() && sights.is_empty());
            if result.failures.is_empty() && !missed {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
