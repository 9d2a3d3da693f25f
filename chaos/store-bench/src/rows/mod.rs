//! The rows of the table.

mod calls;
mod failover;
mod large;
mod mix;
mod steady;
mod watch;

use std::{path::Path, time::Duration};

use futures::future::LocalBoxFuture;

use crate::{cluster::Cluster, load::Sample, plan::Plan, report::Table, system::System, Outcome};

/// A row whose rounds are all alike.
pub struct Row {
    pub name: &'static str,
    pub members: usize,
    pub run: fn(&Cluster, Duration) -> LocalBoxFuture<'_, Outcome<Sample>>,
}

/// Measures everything that the plan wants.
pub async fn measure(systems: &[System], plan: &Plan, dir: &Path) -> Outcome<Table> {
    let names: Vec<&'static str> = systems.iter().map(|system| system.name).collect();
    let mut table = Table::new(names, plan);
    for members in [3, 1] {
        steady_rows(&mut table, systems, members, plan, dir).await?;
    }
    if plan.wants("large") || plan.wants("reclaim") {
        large::measure(&mut table, systems, plan, dir).await?;
    }
    if plan.wants("leader killed") {
        failover::measure(&mut table, systems, plan, dir).await?;
    }
    Ok(table)
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
    for row in rows {
        let mut samples = vec![Sample::default(); systems.len()];
        for _ in 0..plan.rounds {
            for (cluster, sample) in clusters.iter().zip(&mut samples) {
                sample.merge(&(row.run)(cluster, Duration::from_secs_f64(plan.round_s)).await?);
            }
        }
        table.add_samples(row.name, &samples);
    }
    Ok(())
}
