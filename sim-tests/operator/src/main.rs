//! `keelstone-operator`: the example's world from one seed; prints how it ended as one line of JSON.
//!
//! Exit code 0: everything held, 1: something did not, 2: it could not be tried.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use keelstone_apiserver::perturb::Plan;
use keelstone_operator::{
    fleet::Naming,
    world::{run, Outcome},
};
use serde_json::json;

/// Deep futures of a debug build need more than a thread's usual stack.
const STACK_BYTES: usize = 64 << 20;

/// Runs an operator in the simulation.
#[derive(Parser)]
#[command(name = "keelstone-operator", version)]
struct Arguments {
    #[arg(long)]
    seed: u64,
    /// A plan of perturbation (docs/perturbation.md).
    #[arg(long)]
    plan: PathBuf,
    /// Put the bug in.
    #[arg(long)]
    planted: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[allow(clippy::disallowed_methods, reason = "the plan lies outside of the simulated world")]
    let text = std::fs::read_to_string(&arguments.plan).map_err(|error| error.to_string());
    let ended = text.and_then(|text| Plan::parse(&text)).and_then(|plan| simulate(&arguments, plan));
    match ended {
        Ok(outcome) => {
            let (hash, events) = outcome.hash;
            let line = json!({
                "seed": arguments.seed,
                "violation": outcome.violation,
                "writes": outcome.report.records,
                "events": events,
                "hash": format!("{hash:016x}"),
            });
            println!("{line}");
            ExitCode::from(u8::from(outcome.violation.is_some()))
        }
        Err(error) => {
            eprintln!("it could not be tried: {error}");
            ExitCode::from(2)
        }
    }
}

fn simulate(arguments: &Arguments, plan: Plan) -> Result<Outcome, String> {
    let Arguments { seed, planted, .. } = *arguments;
    let naming = if planted { Naming::Drawn } else { Naming::Numbered };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let running = thread.spawn_scoped(scope, move || run(seed, plan, naming).map_err(|error| error.to_string()));
        running.map_err(|error| error.to_string())?.join().unwrap_or_else(|_| Err("it panicked (see above)".into()))
    })
}
