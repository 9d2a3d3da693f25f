//! One run: a bed, a cluster, clients, faults by the schedule, healing, last reads, and the history.

use std::{
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::{Duration, Instant},
};

use keelstone_chaos_bed::{clock, Bed, BedOptions, Failure, Outcome};
use rand::{rngs::SmallRng, Rng, SeedableRng};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    cluster::Cluster,
    constants::{HEAL_TIME_MAX, PAUSE, READY_TIME_MAX},
    ending,
    nemeses::Nemesis,
    record::{Class, Line, Recorder, NEMESIS},
    schedule::{Fault, Planned, Schedule},
    target::Target,
    workloads::{Actor, Workload},
};

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Options {
    pub target: Arc<dyn Target>,
    pub workloads: Vec<Arc<dyn Workload>>,
    /// Those that may strike; those that cannot work here are left out, with the reason.
    pub nemeses: Vec<Arc<dyn Nemesis>>,
    pub members: usize,
    /// Hosts beside the members, for a target that has a use for them.
    pub workers: usize,
    pub seed: u64,
    pub duration: Duration,
    pub overlap: bool,
    /// Instead of one that the seed makes.
    pub schedule: Option<Schedule>,
    pub bed: BedOptions,
    /// What is not kept.
    pub work: PathBuf,
    /// What is kept: history, schedule, logs.
    pub folder: PathBuf,
}

/// What a run leaves.
#[derive(Debug)]
pub struct Recorded {
    pub lines: Vec<Line>,
    /// Nemeses that cannot work here, with the reason.
    pub impossible: Vec<(String, String)>,
    pub schedule: Schedule,
}

/// Between two faults of a lane at least.
const REST: Duration = Duration::from_secs(2);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(5);

/// Makes the run. The history is in `history.jsonl` of the run's folder.
///
/// # Errors
/// [`Failure::Impossible`] if it could not be tried; [`Failure::Broken`] if the cluster does not come back after the
/// last fault was healed.
pub async fn run(options: &Options) -> Outcome<Recorded> {
    std::fs::create_dir_all(&options.folder)?;
    let members: Vec<String> = (1..=options.members).map(|i| format!("m{i}")).collect();
    let workers: Vec<String> = (1..=options.workers).map(|i| format!("w{i}")).collect();
    let clocks = options.bed.clocks && options.target.programs().iter().all(|p| clock::reaches(p));
    let bed = BedOptions { clocks, ..options.bed };
    let bed = Bed::make(&options.work, &options.folder, &members, &workers, bed)?;
    let cluster = Arc::new(Cluster::new(bed, options.target.clone()));
    cluster.form()?;
    let ready = cluster.wait_ready(READY_TIME_MAX).await;
    ready.map_err(|f| Failure::impossible(format!("the cluster does not start: {}", f.text())))?;
    let (nemeses, impossible) = possible(&cluster, &options.nemeses);
    let schedule = options.schedule.clone().unwrap_or_else(|| plan(options, &nemeses));
    schedule.save(&options.folder.join("schedule.json"))?;
    for workload in &options.workloads {
        workload.prepare(&cluster).await?;
    }
    let recorder = Arc::new(Recorder::create(&options.folder.join("history.jsonl"))?);
    for (name, why) in &impossible {
        note(&recorder, &format!("{name} does not strike: {why}"));
    }
    let clients = Clients::start(&cluster, options, &recorder)?;
    let struck = strike(&cluster, &schedule, &nemeses, &recorder).await;
    let actors = clients.stop().await;
    struck?;
    let healed = heal(&cluster, &recorder).await;
    if healed.is_ok() {
        for (workload, mut actor) in actors {
            workload.finish(&mut actor).await?;
        }
        ending::record(&cluster, &recorder).await?;
    }
    let lines = recorder.lines()?;
    healed?;
    Ok(Recorded { lines, impossible, schedule })
}

type Named = Vec<Arc<dyn Nemesis>>;

fn possible(cluster: &Cluster, wanted: &Named) -> (Named, Vec<(String, String)>) {
    let (mut can, mut cannot) = (Vec::new(), Vec::new());
    for nemesis in wanted {
        match nemesis.possible(cluster) {
            Ok(()) => can.push(nemesis.clone()),
            Err(why) => cannot.push((nemesis.name().to_owned(), why)),
        }
    }
    (can, cannot)
}

fn plan(options: &Options, nemeses: &Named) -> Schedule {
    let planned: Vec<Planned> = nemeses
        .iter()
        .map(|n| Planned {
            name: n.name().to_owned(),
            alone: n.alone(),
            takes_filesystem: n.takes_filesystem(),
            length_ms_min: u64::try_from(n.least().as_millis()).unwrap_or(0),
        })
        .collect();
    Schedule::plan(options.seed, options.members, options.duration, &planned, options.overlap)
}

/// All clients, each in a task.
struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<(Arc<dyn Workload>, JoinHandle<Actor>)>,
}

impl Clients {
    fn start(cluster: &Cluster, options: &Options, recorder: &Arc<Recorder>) -> Outcome<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let names = cluster.names();
        let mut tasks = Vec::new();
        let mut number = 0;
        for workload in &options.workloads {
            for i in 0..workload.clients(u32::try_from(names.len()).unwrap_or(1)) {
                let host = names[i as usize % names.len()].clone();
                let actor = Actor {
                    workload: workload.name(),
                    number,
                    client: cluster.client(&host, number)?,
                    host,
                    rng: SmallRng::seed_from_u64(options.seed ^ (u64::from(number) << 32)),
                    turn: 0,
                    recorder: recorder.clone(),
                };
                number += 1;
                tasks.push((workload.clone(), tokio::spawn(live(workload.clone(), actor, stop.clone()))));
            }
        }
        Ok(Self { stop, tasks })
    }

    /// Lets every client end its turn; one actor of each workload, for its last reads.
    async fn stop(self) -> Vec<(Arc<dyn Workload>, Actor)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut last: Vec<(Arc<dyn Workload>, Actor)> = Vec::new();
        for (workload, task) in self.tasks {
            let Ok(actor) = task.await else { continue };
            if last.iter().all(|(w, _)| w.name() != workload.name()) {
                last.push((workload, actor));
            }
        }
        last
    }
}

async fn live(workload: Arc<dyn Workload>, mut actor: Actor, stop: Arc<AtomicBool>) -> Actor {
    while !stop.load(Ordering::Relaxed) {
        actor.turn += 1;
        workload.turn(&mut actor).await;
        let pause_ms = u64::try_from(PAUSE.as_millis()).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(actor.rng.random_range(pause_ms / 2..pause_ms * 3 / 2))).await;
    }
    actor
}

/// All lanes of the schedule, to its end.
async fn strike(cluster: &Arc<Cluster>, schedule: &Schedule, nemeses: &Named, recorder: &Arc<Recorder>) -> Outcome<()> {
    let begun = Instant::now();
    let mut lanes = Vec::new();
    for lane in schedule.lanes.clone() {
        let (cluster, nemeses, recorder) = (cluster.clone(), nemeses.clone(), recorder.clone());
        lanes.push(tokio::spawn(async move {
            for fault in lane {
                // One that was slow to end is followed by rest all the same.
                let at = (begun + Duration::from_millis(fault.at_ms)).max(Instant::now() + REST);
                tokio::time::sleep_until(at.into()).await;
                one(&cluster, &nemeses, &fault, &recorder).await?;
            }
            Ok::<(), Failure>(())
        }));
    }
    let mut ticks = tokio::time::interval(PROGRESS);
    while begun.elapsed() < schedule.duration() || !lanes.is_empty() {
        ticks.tick().await;
        let [ok, failed, unknown] = recorder.counts();
        let (now_s, all_s) = (begun.elapsed().as_secs(), schedule.duration().as_secs());
        println!("  {now_s:4} of {all_s} s: {ok} acknowledged, {failed} failed, {unknown} of unknown outcome");
        while let Some(i) = lanes.iter().position(JoinHandle::is_finished) {
            lanes.remove(i).await.map_err(|e| Failure::impossible(format!("a nemesis ended: {e}")))??;
        }
    }
    Ok(())
}

async fn one(cluster: &Cluster, nemeses: &Named, fault: &Fault, recorder: &Recorder) -> Outcome<()> {
    let Some(nemesis) = nemeses.iter().find(|n| n.name() == fault.nemesis) else {
        note(recorder, &format!("{} of the schedule cannot strike here", fault.nemesis));
        return Ok(());
    };
    let start_us = recorder.now_us();
    let begun = Instant::now();
    let harm = nemesis.start(cluster, fault).await?;
    println!("       {}: {}", fault.nemesis, harm.told);
    tokio::time::sleep(Duration::from_millis(fault.length_ms).saturating_sub(begun.elapsed())).await;
    nemesis.stop(cluster, &harm).await?;
    recorder.add(Line {
        source: NEMESIS.into(),
        client: 0,
        host: harm.hosts.join(","),
        start_us,
        end_us: recorder.now_us(),
        kind: fault.nemesis.clone(),
        class: Class::Info,
        writes: false,
        what: json!({"fault": fault, "told": harm.told}),
    });
    Ok(())
}

/// Nothing is wrong any more: whoever does not run is started, and every member must serve.
async fn heal(cluster: &Cluster, recorder: &Recorder) -> Outcome<()> {
    for host in &cluster.bed.hosts {
        if let Some(status) = host.ended() {
            note(recorder, &format!("{} had ended by itself with {status}; started again", host.name));
        }
        cluster.start(&host.name)?;
    }
    let took = cluster.wait_ready(HEAL_TIME_MAX).await?;
    note(recorder, &format!("every member serves {:.1} s after the last client ended", took.as_secs_f64()));
    Ok(())
}

fn note(recorder: &Recorder, text: &str) {
    println!("       {text}");
    let now_us = recorder.now_us();
    recorder.add(Line {
        source: "suite".into(),
        client: 0,
        host: String::new(),
        start_us: now_us,
        end_us: now_us,
        kind: "note".into(),
        class: Class::Info,
        writes: false,
        what: json!(text),
    });
}

/// Where a run's history is.
pub fn history_file(folder: &Path) -> PathBuf {
    folder.join("history.jsonl")
}
