//! The subcommands `store` and `check`.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use keelstone_chaos_bed::{isolation, Bed, BedOptions};
use keelstone_chaos_cluster as cluster;
use keelstone_chaos_report::{page, About, Extra};
use keelstone_chaos_store::{
    self as chaos, figures, history_file, judge, nemeses, record, summary::Summary, target, workloads, Verdict,
};

use crate::{
    failure::{Failure, Outcome},
    fault_flags::FaultArguments,
    interrupt::until_interrupted,
    table::SUMMARY_FILE,
};

/// What the run's report says above all.
const ABOUT_FILE: &str = "about.json";

#[derive(Args)]
pub struct TargetArguments {
    /// keelstone or etcd
    #[arg(long, default_value = "keelstone")]
    target: String,
    /// The target's program; `keelstone` beside this one, or etcd of the system, if it is not given.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Another build of it, for rolling upgrades.
    #[arg(long)]
    other: Option<PathBuf>,
    #[arg(long, default_value_t = 3)]
    members: usize,
}

impl TargetArguments {
    fn target(&self) -> Outcome<Arc<dyn target::Target>> {
        target::by_name(&self.target, self.program.as_deref(), self.other.as_deref())
    }
}

#[derive(Args)]
pub struct StoreArguments {
    #[command(flatten)]
    target: TargetArguments,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    #[command(flatten)]
    faults: FaultArguments,
    /// Where history, schedule, logs and verdict are kept.
    #[arg(long, default_value = "run/chaos-store")]
    folder: PathBuf,
}

#[derive(Args)]
pub struct CheckArguments {
    /// The folder of a run.
    folder: PathBuf,
}

pub type Work = Pin<Box<dyn Future<Output = Outcome<()>>>>;

pub fn run(arguments: StoreArguments, block_on: impl Fn(Work) -> Outcome<()>) -> Outcome<()> {
    // Wrong arguments are told before anything is made.
    let target = arguments.target.target()?;
    let workloads = workloads::named(workloads::all(), &arguments.faults.workloads)?;
    let nemeses = nemeses::named(nemeses::all(), &arguments.faults.nemeses)?;
    let schedule = arguments.faults.schedule()?;
    let work = isolation::enter()?;
    std::fs::create_dir_all(&arguments.folder)?;
    let folder = arguments.folder.canonicalize()?;
    let options = chaos::Options {
        target,
        workloads,
        nemeses,
        members: arguments.target.members,
        workers: 0,
        seed: arguments.seed,
        duration: Duration::from_secs(arguments.seconds),
        overlap: arguments.faults.overlap,
        schedule,
        bed: arguments.faults.bed(),
        work: work.path().to_owned(),
        folder,
    };
    let title = format!("{} members of {}, seed {}", options.members, options.target.name(), options.seed);
    recorded(options, title, block_on)
}

/// Makes the run and judges it; the one command that makes it again is kept with it.
pub fn recorded(options: chaos::Options, title: String, block_on: impl Fn(Work) -> Outcome<()>) -> Outcome<()> {
    println!("== {title}");
    let folder = options.folder.clone();
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    std::fs::write(folder.join("command.txt"), format!("{command}\n"))?;
    let about = About { title, target: options.target.name().to_owned(), command };
    std::fs::write(folder.join(ABOUT_FILE), serde_json::to_string(&about).unwrap_or_default())?;
    block_on(Box::pin(async move {
        let recorded = until_interrupted(chaos::run(&options)).await?;
        tell(&recorded.lines, &options.workloads, &folder)
    }))
}

pub fn divergence(arguments: &TargetArguments, block_on: impl Fn(Work) -> Outcome<()>) -> Outcome<()> {
    let target = arguments.target()?;
    let work = isolation::enter()?;
    let names: Vec<String> = (1..=arguments.members).map(|i| format!("m{i}")).collect();
    block_on(Box::pin(async move {
        let bed = Bed::make(work.path(), work.path(), &names, &[], BedOptions::default())?;
        let story = until_interrupted(chaos::divergence::run(&chaos::Cluster::new(bed, target))).await?;
        println!("held: what was refused is nowhere\n  {story}");
        Ok(())
    }))
}

type Kept = (Vec<record::Line>, Vec<Arc<dyn workloads::Workload>>);

/// A kept history, and the workloads that are in it.
pub fn kept(folder: &Path) -> Outcome<Kept> {
    let lines = record::read(&history_file(folder))?;
    let present = |w: &Arc<dyn workloads::Workload>| lines.iter().any(|l| l.source == w.name());
    let known = workloads::all().into_iter().chain(cluster::workloads::all(
        &Arc::default(),
        Path::new(""),
        0,
        cluster::Timings::FAST,
    ));
    let workloads = known.filter(present).collect();
    Ok((lines, workloads))
}

pub fn planted(arguments: &CheckArguments) -> Outcome<()> {
    let (lines, workloads) = kept(&arguments.folder)?;
    if judge(&lines, &workloads).violated() {
        return Err(Failure::impossible("this history is violated as it is: nothing can be planted in it"));
    }
    let known = |p: &&chaos::planted::Plant| workloads.iter().any(|w| w.name() == p.check) || p.check.contains("(4)");
    let plants = chaos::planted::PLANTS.iter().chain(cluster::planted::PLANTS);
    for line in chaos::planted::run(&lines, &workloads, &plants.filter(known).collect::<Vec<_>>())? {
        println!("  {line}");
    }
    println!("every planted defect was found");
    Ok(())
}

pub fn check(arguments: &CheckArguments) -> Outcome<()> {
    let (lines, workloads) = kept(&arguments.folder)?;
    tell(&lines, &workloads, &arguments.folder)
}

fn tell(lines: &[record::Line], workloads: &[Arc<dyn workloads::Workload>], folder: &Path) -> Outcome<()> {
    let verdict = judge(lines, workloads);
    let faults = figures::faults(lines);
    println!("\n== Faults: time without an acknowledged write, and to the first one after the fault (median, max)");
    let ms = |us: u64| us / 1_000;
    for s in figures::summaries(&faults) {
        let ((gap, gap_max), (back, back_max)) = (s.gap_us, s.recovery_us);
        println!(
            "  {:20} {:3} times  {:6} {:6} ms   {:6} {:6} ms",
            s.nemesis,
            s.times,
            ms(gap),
            ms(gap_max),
            ms(back),
            ms(back_max)
        );
    }
    println!("\n== Verdict: {}", verdict.word());
    for check in &verdict.checks {
        let [ok, failed, unknown] = check.counts;
        let counts = format!("{ok} acknowledged, {failed} failed, {unknown} of unknown outcome");
        let counts = if check.counts == [0; 3] { String::new() } else { counts };
        match &check.violation {
            None => println!("  held: {:32} {counts}", check.name),
            Some(story) => println!("  VIOLATED: {} {counts}\n{story}", check.name),
        }
    }
    let text = serde_json::to_string_pretty(&verdict).unwrap_or_default();
    std::fs::write(folder.join("verdict.json"), text)?;
    let about: About = serde_json::from_str(&std::fs::read_to_string(folder.join(ABOUT_FILE))?)
        .map_err(|e| Failure::impossible(format!("{ABOUT_FILE}: {e}")))?;
    let summary = Summary::of(&about.target, &short(&about.command), lines, &verdict);
    std::fs::write(folder.join(SUMMARY_FILE), serde_json::to_string(&summary).unwrap_or_default() + "\n")?;
    std::fs::write(folder.join("report.html"), page(&about, lines, &verdict, &extras(lines)))?;
    println!("  in {}: report.html, history.jsonl, schedule.json, verdict.json, logs/", folder.display());
    outcome(&verdict)
}

/// The command without what differs from machine to machine: where programs and folders are.
fn short(command: &str) -> String {
    let mut words = command.split(' ').skip(1);
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--folder" | "--program" | "--keelstone" => drop(words.next()),
            _ => kept.push(word),
        }
    }
    kept.join(" ")
}

/// What losses cost step by step, if there were whole masters.
fn extras(lines: &[record::Line]) -> Vec<Extra> {
    let steps = cluster::steps::steps(lines);
    let mut names: Vec<(&str, &str)> = Vec::new();
    for step in &steps {
        if !names.contains(&(&step.fault, step.step)) {
            names.push((&step.fault, step.step));
        }
    }
    if names.is_empty() {
        return Vec::new();
    }
    let row = |(fault, name): &(&str, &str)| {
        let mut took: Vec<u64> =
            steps.iter().filter(|s| s.fault == *fault && s.step == *name).map(|s| s.took_us / 1_000).collect();
        took.sort_unstable();
        let (median, max) = (took[took.len() / 2], took[took.len() - 1]);
        println!("  {fault:20} {name:36} {:3} times  median {median:6} ms  max {max:6} ms", took.len());
        vec![(*fault).to_owned(), (*name).to_owned(), took.len().to_string(), median.to_string(), max.to_string()]
    };
    println!("\n== The loss of a master and of a worker, step by step, from the fault on");
    vec![Extra {
        title: "What the loss of a master and of a worker cost, step by step".into(),
        heads: ["fault", "until", "times", "median, ms", "maximum, ms"].map(str::to_owned).to_vec(),
        rows: names.iter().map(row).collect(),
    }]
}

fn outcome(verdict: &Verdict) -> Outcome<()> {
    match verdict.exit_code() {
        0 => Ok(()),
        1 => Err(Failure::broken("violated")),
        _ => Err(Failure::impossible(format!("inconclusive: {}", verdict.inconclusive.join("; ")))),
    }
}
