//! The subcommand `cluster`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use keelstone_chaos_bed::{isolation, BedOptions};
use keelstone_chaos_cluster::{nemeses, workloads, Api, Timings, WholeTarget};
use keelstone_chaos_store::{self as chaos, nemeses::named as chosen, schedule::Schedule, workloads::named};

use crate::{
    commands::keelstone,
    failure::{Failure, Outcome},
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
    /// Which clients; all if it is not given.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Which faults; all that can work here if it is not given.
    #[arg(long, value_delimiter = ',')]
    nemeses: Vec<String>,
    /// Faults overlap.
    #[arg(long)]
    overlap: bool,
    /// Every master has a filesystem of its own: for full disks and losses of power.
    #[arg(long)]
    own_disks: bool,
    /// Every frame goes through a cable that can be slow.
    #[arg(long)]
    slow_links: bool,
    /// Every file of a master goes through a filesystem that can be slow to sync, or fail to.
    #[arg(long)]
    faulty_disks: bool,
    /// Plays this schedule instead of one that the seed makes.
    #[arg(long)]
    schedule: Option<PathBuf>,
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
    named(workloads::all(&Arc::default(), "".as_ref(), 0, timings), &arguments.workloads)?;
    chosen(nemeses::all(None), &arguments.nemeses)?;
    let schedule = arguments.schedule.as_deref().map(Schedule::load).transpose()?;
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
        workloads: named(workloads::all(&api, &work.path().join("journals"), workers, timings), &arguments.workloads)?,
        nemeses: chosen(nemeses::all(Some(&target)), &arguments.nemeses)?,
        members: masters,
        workers,
        seed: arguments.seed,
        duration: Duration::from_secs(arguments.seconds),
        overlap: arguments.overlap,
        schedule,
        bed: BedOptions {
            own_disks: arguments.own_disks,
            slow_links: arguments.slow_links,
            faulty_disks: arguments.faulty_disks,
            clocks: true,
        },
        work: work.path().to_owned(),
        folder,
    };
    recorded(options, title, block_on)
}
