//! The rows of the table.

mod beside;
mod calls;
mod failover;
mod large;
mod mix;
mod steady;
mod watch;

use std::{future::Future, path::Path, time::Duration};

use futures::future::LocalBoxFuture;
use tokio::time::timeout;

use crate::{
    cluster::Cluster,
    constants::{PART_TIME_MAX, ROW_TIME_MAX},
    load::Sample,
    plan::Plan,
    report::Table,
    system::System,
    Failure, Outcome,
};

/// A row whose rounds are all alike.
pub struct Row {
    pub name: &'static str,
    pub members: usize,
    pub run: fn(&Cluster, Duration) -> LocalBoxFuture<'_, Outcome<Sample>>,
}

/// Measures everything that the plan wants. A part that cannot be measured is said and missing from the table, the
/// others are measured all the same; false if there was one.
pub async fn measure(systems: &[System], plan: &Plan, dir: &Path) -> (Table, bool) {
    let names: Vec<&'static str> = systems.iter().map(|system| system.name).collect();
    let mut table = Table::new(names, plan);
    let mut whole = true;
    for members in [3, 1] {
        let rows = steady_rows(&mut table, systems, members, plan, dir);
        whole &= within(PART_TIME_MAX, "steady rows", rows).await.is_some();
    }
    if plan.wants("beside") {
        whole &= within(PART_TIME_MAX, "beside", beside::measure(&mut table, systems, plan, dir)).await.is_some();
    }
    if plan.wants("large") || plan.wants("reclaim") {
        whole &= within(PART_TIME_MAX, "large store", large::measure(&mut table, systems, plan, dir)).await.is_some();
    }
    if plan.wants("leader killed") {
        let kills = failover::measure(&mut table, systems, plan, dir);
        whole &= within(PART_TIME_MAX, "leader killed", kills).await.is_some();
    }
    (table, whole)
}

/// The outcome of `work`; `None` if it failed or took too long, which is said.
async fn within<T>(limit: Duration, name: &str, work: impl Future<Output = Outcome<T>>) -> Option<T> {
    match timeout(limit, work).await {
        Ok(Ok(done)) => return Some(done),
        Ok(Err(failure)) => eprintln!("{name}: {failure}"),
        Err(_) => eprintln!("{name}: given up after {} s", limit.as_secs()),
    }
    None
}

async fn steady_rows(table: &mut Table, systems: &[System], members: usize, plan: &Plan, dir: &Path) -> Outcome<()> {
    let rows: Vec<Row> =
        steady::all().into_iter().filter(|row| row.members == members && plan.wants(row.name)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let mut clusters = Vec::new();
    for system in systems {
        let cluster = Cluster::start(system, members, dir).await?;
        steady::prepare(&cluster).await?;
        clusters.push(cluster);
    }
    let mut missing = 0;
    for row in rows {
        match within(ROW_TIME_MAX, row.name, rounds(&row, &clusters, plan)).await {
            Some(samples) => table.add_samples(row.name, &samples),
            None => missing += 1,
        }
    }
    match missing {
        0 => Ok(()),
        _ => Err(Failure::Failed(format!("{missing} rows were not measured"))),
    }
}

/// The systems in turn, round after round.
async fn rounds(row: &Row, clusters: &[Cluster], plan: &Plan) -> Outcome<Vec<Sample>> {
    let mut samples = vec![Sample::default(); clusters.len()];
    for _ in 0..plan.rounds {
        for (cluster, sample) in clusters.iter().zip(&mut samples) {
            sample.merge(&(row.run)(cluster, Duration::from_secs_f64(plan.round_s)).await?);
        }
    }
    Ok(samples)
}
