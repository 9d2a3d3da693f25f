//! The same schedule on etcd and on this store, one after the other, each in a run of its own.

use std::path::{Path, PathBuf};

use clap::Args;
use keelstone_chaos_store::{figures, judge, workloads};

use crate::{
    failure::{Failure, Outcome},
    store_run::kept,
};

#[derive(Args)]
pub struct CompareArguments {
    /// The program of this store; the one beside this program if it is not given.
    #[arg(long)]
    keelstone: Option<PathBuf>,
    /// The program of etcd; the system's if it is not given.
    #[arg(long)]
    etcd: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// All that can strike an etcd, if it is not given.
    #[arg(long, value_delimiter = ',')]
    nemeses: Vec<String>,
    #[arg(long, default_value = "run/chaos-compare")]
    folder: PathBuf,
}

pub fn run(arguments: &CompareArguments) -> Outcome<()> {
    // etcd first: what cannot strike it is not in the schedule.
    let etcd = arguments.folder.join("etcd");
    let ours = arguments.folder.join("keelstone");
    record(arguments, "etcd", arguments.etcd.as_deref(), &etcd, None)?;
    record(arguments, "keelstone", arguments.keelstone.as_deref(), &ours, Some(&etcd.join("schedule.json")))?;
    let table = table(&etcd, &ours)?;
    print!("\n{table}");
    Ok(std::fs::write(arguments.folder.join("comparison.md"), table)?)
}

fn record(
    a: &CompareArguments,
    target: &str,
    program: Option<&Path>,
    folder: &Path,
    plan: Option<&Path>,
) -> Outcome<()> {
    let mut command = crate::interrupt::ends_with_us(&std::env::current_exe()?);
    command.args(["store", "--target", target, "--own-disks", "--folder"]).arg(folder);
    command.args(["--seed", &a.seed.to_string(), "--seconds", &a.seconds.to_string()]);
    if let Some(program) = program {
        command.arg("--program").arg(program);
    }
    match plan {
        Some(file) => drop(command.arg("--schedule").arg(file)),
        None if !a.nemeses.is_empty() => drop(command.args(["--nemeses", &a.nemeses.join(",")])),
        None => {}
    }
    // Violated or inconclusive is a finding here, not the end.
    match command.status()?.code() {
        Some(0 | 1) if folder.join("history.jsonl").is_file() => Ok(()),
        Some(2) if folder.join("verdict.json").is_file() => Ok(()),
        other => Err(Failure::impossible(format!("the run on {target} ended with {other:?}"))),
    }
}

/// Both, as a table of Markdown.
fn table(etcd: &Path, ours: &Path) -> Outcome<String> {
    let (theirs, own) = (side(etcd)?, side(ours)?);
    let mut text = String::from("| | etcd | keelstone |\n|---|---|---|\n");
    let mut row = |name: &str, a: &str, b: &str| text.push_str(&format!("| {name} | {a} | {b} |\n"));
    row("verdict", &theirs.verdict, &own.verdict);
    row("acknowledged, failed, unknown", &theirs.counts, &own.counts);
    row("watch events lost, repeated", &theirs.watch, &own.watch);
    for name in theirs.faults.iter().map(|s| &s.nemesis) {
        let told = |side: &Side| {
            let found = side.faults.iter().find(|s| s.nemesis == *name);
            found.map_or("-".into(), |s| {
                let ms = |(median, max): (u64, u64)| format!("{}, {}", median / 1_000, max / 1_000);
                format!("{} / {}", ms(s.gap_us), ms(s.recovery_us))
            })
        };
        row(
            &format!("{name}: ms without writes (median, max) / to the first write after"),
            &told(&theirs),
            &told(&own),
        );
    }
    Ok(text)
}

struct Side {
    verdict: String,
    counts: String,
    watch: String,
    faults: Vec<figures::Summary>,
}

fn side(folder: &Path) -> Outcome<Side> {
    let (lines, own) = kept(folder)?;
    let verdict = judge(&lines, &own);
    let violated = verdict.checks.iter().filter(|c| c.violation.is_some()).map(|c| c.name.as_str());
    let violated: Vec<&str> = violated.collect();
    let sum = |i: usize| verdict.checks.iter().map(|c| c.counts[i]).sum::<usize>();
    let (lost, repeated) = workloads::lost_and_repeated(&lines);
    Ok(Side {
        verdict: if violated.is_empty() { verdict.word().into() } else { format!("violated: {}", violated.join(", ")) },
        counts: format!("{}, {}, {}", sum(0), sum(1), sum(2)),
        watch: format!("{lost}, {repeated}"),
        faults: figures::summaries(&figures::faults(&lines)),
    })
}
