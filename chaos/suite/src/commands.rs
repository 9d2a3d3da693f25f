//! The command line.

use std::{future::Future, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    bench,
    cluster::Cluster,
    cluster_run, compare, e2e,
    failure::{Failure, Outcome},
    history,
    interrupt::until_interrupted,
    long, store_run,
    story::{Length, Story},
    table,
};
use keelstone_chaos_bed::isolation;

/// Drives a real cluster through failures and says whether every promise held.
#[derive(Parser)]
#[command(name = "keelstone-chaos", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The whole story against the cluster that `keelstone up` made.
    Demo(ClusterArguments),
    /// A cluster of its own in private namespaces, the failures, recorded clients, and a verdict.
    Story(StoryArguments),
    /// Members of a store on hosts of their own, recorded clients, faults by a seeded schedule, and a verdict.
    Store(store_run::StoreArguments),
    /// Whole masters and workers on hosts of their own, clients of the Kubernetes API, faults by a seeded schedule, and a
    /// verdict.
    Cluster(cluster_run::ClusterRunArguments),
    /// A refused transaction leaves nothing anywhere: true of this store, not of etcd 3.5.
    Divergence(store_run::TargetArguments),
    /// The same schedule on etcd and on this store, one after the other, and their figures beside each other.
    Compare(compare::CompareArguments),
    /// Plants defects into the history of a run that held: every one must be found.
    Planted(store_run::CheckArguments),
    /// `store` again and again with other seeds, for hours.
    Long(long::LongArguments),
    /// Judges the history that `store` left in its folder once more.
    Check(store_run::CheckArguments),
    /// Many runs as one table: how often each fault met each workload, and what came out.
    Table(table::TableArguments),
    /// Every kubectl version through every command.
    KubectlE2e(E2eArguments),
    /// Figures; all of them on a cluster of its own, unless one is asked for.
    Bench(BenchArguments),
}

#[derive(Args)]
struct ClusterArguments {
    #[arg(long, default_value = "run")]
    dir: PathBuf,
    /// The `keelstone` program; the one beside this program if it is not given.
    #[arg(long)]
    keelstone: Option<PathBuf>,
}

#[derive(Args)]
struct StoryArguments {
    #[arg(long)]
    keelstone: Option<PathBuf>,
    #[arg(long, default_value = "process")]
    runtime: String,
    /// Where the history is written; thrown away if it is not given.
    #[arg(long)]
    history: Option<PathBuf>,
}

#[derive(Args)]
struct E2eArguments {
    #[arg(long)]
    keelstone: Option<PathBuf>,
    #[arg(long, default_value = "process")]
    runtime: String,
    /// Such as 1.27,1.33; all that are found if it is not given.
    #[arg(long, value_delimiter = ',')]
    versions: Vec<String>,
    /// Only cases whose title contains this.
    #[arg(long)]
    only: Option<String>,
}

#[derive(Args)]
struct BenchArguments {
    #[arg(long, global = true)]
    keelstone: Option<PathBuf>,
    #[arg(long, default_value = "process", global = true)]
    runtime: String,
    #[command(subcommand)]
    which: Option<Bench>,
}

#[derive(Subcommand)]
enum Bench {
    /// Time without acknowledged writes over kills of the leading master.
    Failover {
        #[arg(long, default_value = "run")]
        dir: PathBuf,
        #[arg(long, default_value_t = 20)]
        rounds: u32,
    },
    /// Creates a second, lists of pods, pod create to Running, memory of a master.
    Api {
        #[arg(long, default_value = "run")]
        dir: PathBuf,
        #[arg(long, default_value_t = 5_000)]
        pods: u32,
    },
    /// What the loss of a master and of a worker costs, step by step, on a cluster of its own.
    Losses {
        #[arg(long, default_value_t = 4)]
        rounds: u32,
        /// Kubernetes' periods instead of fast ones: some minutes a round.
        #[arg(long)]
        default_timings: bool,
    },
    /// Time from `keelstone up` of a new cluster to the first list of nodes; memory of its idle masters.
    Up,
}

pub fn keelstone(given: Option<PathBuf>) -> Outcome<PathBuf> {
    let path = match given {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("keelstone"),
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::impossible(format!("{} is not a file; --keelstone names the program", path.display())))
}

pub fn main() -> ExitCode {
    let ended = run(Arguments::parse().command);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("keelstone-chaos: {}", failure.text());
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(command: Command) -> Outcome<()> {
    match command {
        Command::Demo(arguments) => {
            let cluster = Cluster::open(&arguments.dir, &keelstone(arguments.keelstone)?)?;
            block_on(demo(cluster))
        }
        Command::Story(arguments) => {
            let keelstone = keelstone(arguments.keelstone)?;
            let _work = isolation::enter()?;
            block_on(history::run(&keelstone, &arguments.runtime, arguments.history.as_deref()))
        }
        Command::Store(arguments) => store_run::run(arguments, block_on),
        Command::Cluster(arguments) => cluster_run::run(arguments, block_on),
        Command::Divergence(arguments) => store_run::divergence(&arguments, block_on),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Planted(arguments) => store_run::planted(&arguments),
        Command::Long(arguments) => long::run(&arguments),
        Command::Check(arguments) => store_run::check(&arguments),
        Command::Table(arguments) => table::run(&arguments),
        Command::KubectlE2e(arguments) => {
            let keelstone = keelstone(arguments.keelstone)?;
            let _work = isolation::enter()?;
            let options =
                e2e::Options { runtime: arguments.runtime, versions: arguments.versions, only: arguments.only };
            block_on(e2e::run(&keelstone, &options))
        }
        Command::Bench(arguments) => bench(arguments),
    }
}

fn bench(arguments: BenchArguments) -> Outcome<()> {
    let keelstone = keelstone(arguments.keelstone)?;
    match arguments.which {
        Some(Bench::Failover { dir, rounds }) => block_on(bench::failover(Cluster::open(&dir, &keelstone)?, rounds)),
        Some(Bench::Api { dir, pods }) => block_on(bench::api(Cluster::open(&dir, &keelstone)?, pods)),
        Some(Bench::Losses { rounds, default_timings }) => {
            let _work = isolation::enter()?;
            block_on(bench::losses(&keelstone, &arguments.runtime, rounds, default_timings))
        }
        Some(Bench::Up) => {
            let _work = isolation::enter()?;
            block_on(bench::up(&keelstone, &arguments.runtime))
        }
        None => {
            let _work = isolation::enter()?;
            block_on(bench::all(&keelstone, &arguments.runtime))
        }
    }
}

async fn demo(cluster: Cluster) -> Outcome<()> {
    let mut story = Story::new(cluster, Length::Full)?;
    until_interrupted(story.tell()).await?;
    println!("\nEvery step held.");
    Ok(())
}

fn block_on(work: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?.block_on(work)
}
