//! The subcommand `cluster`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use keelstone_chaos_bed::isolation;
use keelstone_chaos_cluster::{nemeses, workloads, Api, Timings, WholeTarget};
use keelstone_chaos_store::{self as chaos, nemeses::named as chosen, workloads::named};

use crate::{
    commands::keelstone,
    failure::{Failure, Outcome},
    fault_flags::FaultArguments,
    store_run::{recorded, Work},
};

const MASTERS_MAX: usize = 5;
const WORKERS_MAX: usize = 8;
/// The API servers compact the store after ten minutes to where it was after five.
const SECONDS_MAX: u64 = 500;

#[derive(Args)]
pub struct ClusterRunArguments {
    #[arg(long)]
    keelstone: Option<PathBuf>,
    /// process, or cri: a containerd for each worker.
    #[arg(long, default_value = "process")]
    runtime: String,
    #[arg(long, default_value_t = 3)]
    masters: usize,
    #[arg(long, default_value_t = 3)]
    workers: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 240)]
    seconds: u64,
    /// Kubernetes' periods (a node is lost after 50 s, its pods after 300 s more) instead of short ones.
    #[arg(long)]
    default_timings: bool,
    #[command(flatten)]
    faults: FaultArguments,
    /// Where history, schedule, logs and verdict are kept.
    #[arg(long, default_value = "run/chaos-cluster")]
    folder: PathBuf,
}

pub fn run(arguments: ClusterRunArguments, block_on: impl Fn(Work) -> Outcome<()>) -> Outcome<()> {
    // Wrong arguments are told before anything is made.
    let program = keelstone(arguments.keelstone.clone())?.canonicalize()?;
    if !(1..=MASTERS_MAX).contains(&arguments.masters) || !(1..=WORKERS_MAX).contains(&arguments.workers) {
        return Err(Failure::impossible(format!("1 to {MASTERS_MAX} masters and 1 to {WORKERS_MAX} workers")));
    }
    if arguments.seconds > SECONDS_MAX {
        return Err(Failure::impossible(format!("at most {SECONDS_MAX} s: then API servers compact what is judged")));
    }
    let timings = if arguments.default_timings { Timings::DEFAULT } else { Timings::FAST };
    named(workloads::all(&Arc::default(), "".as_ref(), 0, timings), &arguments.faults.workloads)?;
    chosen(nemeses::all(None), &arguments.faults.nemeses)?;
    let schedule = arguments.faults.schedule()?;
    let work = isolation::enter()?;
    std::fs::create_dir_all(&arguments.folder)?;
    let folder = arguments.folder.canonicalize()?;
    let (masters, workers) = (arguments.masters, arguments.workers);
    let (target, endpoints) =
        WholeTarget::prepare(&program, &arguments.runtime, masters, workers, timings, work.path())?;
    let (target, api) = (Arc::new(target), Arc::new(Api::new(endpoints)));
    let periods = if arguments.default_timings { "Kubernetes' periods" } else { "short periods" };
    let (runtime, seed) = (&arguments.runtime, arguments.seed);
    let title = format!("{masters} masters and {workers} workers ({runtime}, {periods}), seed {seed}");
    let options = chaos::Options {
        target: target.clone(),
        workloads: named(
            workloads::all(&api, &work.path().join("journals"), workers, timings),
            &arguments.faults.workloads,
        )?,
        nemeses: chosen(nemeses::all(Some(&target)), &arguments.faults.nemeses)?,
        members: masters,
        workers,
        seed: arguments.seed,
        duration: Duration::from_secs(arguments.seconds),
        overlap: arguments.faults.overlap,
        schedule,
        bed: arguments.faults.bed(),
        work: work.path().to_owned(),
        folder,
    };
    recorded(options, title, block_on)
}
