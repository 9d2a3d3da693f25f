//! Every kubectl version through every command of the first issue, against a real cluster.

mod cases;
mod runner;

use std::{path::Path, sync::Arc, time::Instant};

use crate::{
    cluster::Cluster,
    failure::{Failure, Outcome},
    kubectl::{find_all, Program},
    own_cluster::with_cluster,
};

/// The table of cases.
const CASES: &str = include_str!("cases.txt");
/// Versions that are tried at the same time.
const PARALLEL: usize = 3;

pub struct Options {
    pub runtime: String,
    pub versions: Vec<String>,
    pub only: Option<String>,
}

/// Starts a cluster and runs the table with every version.
pub async fn run(keelstone: &Path, options: &Options) -> Outcome<()> {
    let mut programs = find_all()?;
    if !options.versions.is_empty() {
        programs.retain(|p| options.versions.contains(&p.version));
        if programs.is_empty() {
            return Err(Failure::impossible(format!("no kubectl of version {} is found", options.versions.join(", "))));
        }
    }
    let mut table = cases::parse(CASES).map_err(Failure::Impossible)?;
    table.retain(|case| case.setup || options.only.as_ref().is_none_or(|part| case.title.contains(part)));
    with_cluster(keelstone, &options.runtime, |cluster| all_versions(cluster, programs, table)).await
}

async fn all_versions(cluster: Cluster, programs: Vec<Program>, table: Vec<cases::Case>) -> Outcome<()> {
    let begun = Instant::now();
    let table = Arc::new(table);
    let permits = Arc::new(tokio::sync::Semaphore::new(PARALLEL));
    let mut running = tokio::task::JoinSet::new();
    for program in programs {
        let (cluster, table, permits) = (cluster.clone(), table.clone(), permits.clone());
        running.spawn(async move {
            let _permit = permits.acquire_owned().await;
            runner::run_version(&cluster, &program, &table).await
        });
    }
    let mut failed = 0;
    while let Some(ended) = running.join_next().await {
        let result = ended.map_err(|e| Failure::impossible(e.to_string()))??;
        println!("kubectl {}: {} passed, {} failed", result.version, result.passed, result.failures.len());
        for failure in &result.failures {
            println!("{failure}");
        }
        failed += result.failures.len();
    }
    println!("all versions after {:.0} s", begun.elapsed().as_secs_f64());
    if failed > 0 {
        return Err(Failure::broken(format!("{failed} cases failed")));
    }
    Ok(())
}
