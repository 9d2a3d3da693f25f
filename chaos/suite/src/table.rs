//! Many runs as one table: which fault met which workload how often, for how long, and what came out.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use keelstone_chaos_store::summary::{table, Summary};

use crate::failure::{Failure, Outcome};

/// In the folder of each run; `long` keeps one of such lines, [`RUNS_FILE`], for runs whose folders it removes.
pub const SUMMARY_FILE: &str = "summary.json";
pub const RUNS_FILE: &str = "runs.jsonl";

#[derive(Args)]
pub struct TableArguments {
    /// Folders of runs, of `long`, or folders of such folders.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
}

/// Prints, for each target, the table and the command of every run.
pub fn run(arguments: &TableArguments) -> Outcome<()> {
    let mut by_target: BTreeMap<String, Vec<Summary>> = BTreeMap::new();
    for folder in &arguments.folders {
        for summary in below(folder)? {
            by_target.entry(summary.target.clone()).or_default().push(summary);
        }
    }
    if by_target.is_empty() {
        return Err(Failure::impossible("there is no run in these folders"));
    }
    for (target, runs) in by_target {
        let of = |word: &str| runs.iter().filter(|r| r.verdict == word).count();
        let (seconds, acknowledged) = runs.iter().fold((0, 0), |(s, a), r| (s + r.seconds, a + r.acknowledged));
        println!(
            "## {target}: {} runs, {:.2} hours, {acknowledged} acknowledged operations: {} held, {} violated, {} inconclusive\n",
            runs.len(),
            seconds as f64 / 3_600.0,
            of("held"),
            of("violated"),
            of("inconclusive")
        );
        println!("{}\n| run | seconds | acknowledged | verdict |\n|---|---|---|---|", table(&runs));
        for r in runs {
            println!("| `{}` | {} | {} | {} |", r.command, r.seconds, r.acknowledged, r.verdict);
        }
        println!();
    }
    Ok(())
}

/// Of this folder, or of all folders in it.
fn below(folder: &Path) -> Outcome<Vec<Summary>> {
    let mut found = Vec::new();
    for file in [SUMMARY_FILE, RUNS_FILE] {
        let file = folder.join(file);
        if file.is_file() {
            let text = std::fs::read_to_string(&file)?;
            let read: Result<Vec<Summary>, _> = text.lines().map(serde_json::from_str).collect();
            found.extend(read.map_err(|e| Failure::impossible(format!("{}: {e}", file.display())))?);
        }
    }
    if !found.is_empty() || !folder.is_dir() {
        return Ok(found);
    }
    let mut folders: Vec<PathBuf> = std::fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect::<Outcome<_>>()?;
    folders.sort();
    for folder in folders.iter().filter(|f| f.join(SUMMARY_FILE).is_file() || f.join(RUNS_FILE).is_file()) {
        found.extend(below(folder)?);
    }
    Ok(found)
}
