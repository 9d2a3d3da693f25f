use std::{fs::File, io::BufWriter, ops::RangeInclusive, path::PathBuf, process::ExitCode};

use clap::Parser;
use keelstone_env::bug::Bug;
use keelstone_world::EventHash;

use crate::{batch::Batch, run::run};

/// Deep futures of a debug build need more than a thread's usual stack.
const STACK_BYTES: usize = 256 << 20;

/// Runs the store's core on madsim.
#[derive(Parser)]
#[command(name = "keelstone-interleavings", version)]
struct Arguments {
    /// Run this one seed in this process.
    #[arg(long, required_unless_present = "seeds")]
    seed: Option<u64>,
    /// Run these seeds (`A..B`, both included), each in a process of its own.
    #[arg(long, value_parser = range, conflicts_with = "seed")]
    seeds: Option<RangeInclusive<u64>>,
    /// With --seeds: run so many of the first seeds twice; the event hashes must be equal.
    #[arg(long, default_value_t = 0)]
    twice_first: u64,
    /// With --seeds: so many processes at one time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Put a known bug of another system in, by its id; with --seeds, one of them must find it.
    #[arg(long, value_parser = bug)]
    plant: Option<Bug>,
    /// Write every hashed event to this file.
    #[arg(long, conflicts_with = "seeds")]
    dump: Option<PathBuf>,
}

fn range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let wrong = || format!("{text:?} is not A..B");
    let (first, last) = text.split_once("..").ok_or_else(wrong)?;
    let range = first.parse().map_err(|_| wrong())?..=last.parse().map_err(|_| wrong())?;
    if range.is_empty() {
        return Err(format!("{text:?}: the first seed is above the last"));
    }
    Ok(range)
}

fn bug(id: &str) -> Result<Bug, String> {
    Bug::by_id(id).ok_or_else(|| {
        let known: Vec<&str> = Bug::ALL.iter().map(|bug| bug.id()).collect();
        format!("known are {}", known.join(", "))
    })
}

/// Exit code 0: everything held (or what was planted was found), 1: it was not so, 2: it could not be tried.
pub fn main() -> ExitCode {
    let Arguments { seed, seeds, twice_first, jobs, plant, dump } = Arguments::parse();
    if let Some(seeds) = seeds {
        return match (Batch { seeds, twice_first, jobs, plant }).run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("it could not be tried: {error}");
                ExitCode::from(2)
            }
        };
    }
    let seed = seed.unwrap_or(0);
    let hash = match dump.map(File::create).transpose() {
        Ok(file) => file.map_or_else(EventHash::default, |file| EventHash::dumping(BufWriter::new(file))),
        Err(error) => {
            eprintln!("the dump cannot be written: {error}");
            return ExitCode::from(2);
        }
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || run(seed, plant, hash));
    let story = match thread.map(|running| running.join()) {
        Ok(Ok((report, ended))) => {
            println!("seed={seed} | {report}");
            match ended {
                Ok(()) => return ExitCode::SUCCESS,
                Err(violation) => format!("violation: {violation}"),
            }
        }
        Ok(Err(_)) => "violation: panic (see above)".to_owned(),
        Err(error) => format!("the run could not start: {error}"),
    };
    eprintln!("seed {seed}: {story}\nrun it again: make madsim MADSIM=\"--seed {seed}\"");
    ExitCode::FAILURE
}
