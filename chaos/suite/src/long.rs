//! Run after run with other seeds, for hours.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    failure::{Failure, Outcome},
    table::{RUNS_FILE, SUMMARY_FILE},
};

/// Of whole clusters, whose API servers compact what is judged.
const SECONDS_WHOLE_MAX: u64 = 300;

#[derive(Args)]
pub struct LongArguments {
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// The first run's; each next run has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Of one run.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// The target's program.
    #[arg(long)]
    program: Option<PathBuf>,
    /// A folder below it for each seed.
    #[arg(long, default_value = "run/chaos-long")]
    folder: PathBuf,
}

/// Stops at the first violation: its folder is then kept; of runs that held only a line in [`RUNS_FILE`] is.
pub fn run(arguments: &LongArguments) -> Outcome<()> {
    let begun = Instant::now();
    let wanted = Duration::from_secs_f64(arguments.hours * 3_600.0);
    let (mut held, mut inconclusive) = (0, 0);
    for seed in arguments.seed.. {
        if begun.elapsed() >= wanted {
            break;
        }
        let folder = arguments.folder.join(seed.to_string());
        let mut command = crate::interrupt::ends_with_us(&std::env::current_exe()?);
        // Members of the store and whole clusters take turns.
        let whole = seed % 2 == 0;
        let seconds = if whole { arguments.seconds.min(SECONDS_WHOLE_MAX) } else { arguments.seconds };
        command.args([if whole { "cluster" } else { "store" }, "--own-disks", "--slow-links", "--faulty-disks"]);
        command.args(["--overlap", "--seed", &seed.to_string(), "--seconds", &seconds.to_string(), "--folder"]);
        command.arg(&folder);
        if let Some(program) = &arguments.program {
            command.arg(if whole { "--keelstone" } else { "--program" }).arg(program);
        }
        match command.status()?.code() {
            Some(0) => {
                held += 1;
                let summary = std::fs::read_to_string(folder.join(SUMMARY_FILE))?;
                File::options()
                    .create(true)
                    .append(true)
                    .open(arguments.folder.join(RUNS_FILE))?
                    .write_all(summary.as_bytes())?;
                std::fs::remove_dir_all(&folder)?;
            }
            Some(2) => inconclusive += 1,
            _ => return Err(Failure::broken(format!("violated with seed {seed}: {}", folder.display()))),
        }
        let hours = begun.elapsed().as_secs_f64() / 3_600.0;
        println!("== {hours:.2} of {:.2} hours: {held} runs held, {inconclusive} inconclusive\n", arguments.hours);
        if held == 0 && inconclusive > 2 {
            return Err(Failure::impossible("three runs said nothing"));
        }
    }
    Ok(())
}
