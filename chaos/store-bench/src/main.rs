//! Compares the store with etcd: the same machine, the same load generator, real processes, rounds in turn.
//!
//! ```text
//! make bench QUICK=1      # about 3 minutes
//! make bench              # everything
//! ```
//! It prints figures and judges none. Exit code 1: something could not be measured.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a leaf: it starts processes and reads clocks

mod client;
mod cluster;
mod constants;
mod histogram;
mod load;
mod plan;
mod report;
mod rows;
mod system;
mod unary;
mod usage;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use plan::Plan;
use system::System;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{what}: {cause}")]
    Io { what: String, cause: std::io::Error },
    #[error("{0}")]
    Failed(String),
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self::Failed(format!("{:?}: {}", status.code(), status.message()))
    }
}

pub type Outcome<T> = Result<T, Failure>;

/// Names what was tried when it fails.
pub fn io<T>(what: impl Into<String>, result: std::io::Result<T>) -> Outcome<T> {
    result.map_err(|cause| Failure::Io { what: what.into(), cause })
}

#[derive(Parser)]
#[command(about = "Compares the store with etcd in one run.")]
struct Flags {
    /// The binary of this store: `keelstone`, or the example `store` of keelstone-store-server.
    #[arg(long)]
    store: PathBuf,
    /// Another binary of this store instead of etcd's: before and after a change.
    #[arg(long, conflicts_with = "etcd")]
    baseline: Option<PathBuf>,
    /// etcd's binary.
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// A few minutes instead of about twenty.
    #[arg(long)]
    quick: bool,
    /// Only rows whose name contains one of these, with `;` between them.
    #[arg(long, value_delimiter = ';')]
    only: Vec<String>,
    /// Where the members' folders are made; its disk is what is measured.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// A text file whose part between the two marks is replaced by the table.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Seconds of each round.
    #[arg(long)]
    seconds: Option<f64>,
    /// Rounds of each system and row.
    #[arg(long)]
    rounds: Option<usize>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    // One thread: the generator must not take the servers' cores with wake-ups among its own threads.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    match tokio::task::LocalSet::new().block_on(&runtime, run(flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Outcome<()> {
    let ours = System::keelstone("keelstone", &flags.store);
    let other = match (&flags.etcd, &flags.baseline) {
        (Some(etcd), _) => Some(System::etcd(etcd)),
        (None, Some(baseline)) => Some(System::keelstone("baseline", baseline)),
        (None, None) => None,
    };
    let mut plan = Plan::new(flags.quick, &flags.only);
    plan.round_s = flags.seconds.unwrap_or(plan.round_s);
    plan.rounds = flags.rounds.unwrap_or(plan.rounds);
    let systems: Vec<System> = std::iter::once(ours).chain(other).collect();
    let (table, whole) = rows::measure(&systems, &plan, &flags.dir).await;
    println!("\n{}", table.text());
    if let Some(path) = &flags.write {
        table.write_into(path)?;
    }
    match whole {
        true => Ok(()),
        false => Err(Failure::Failed("not everything could be measured".into())),
    }
}
