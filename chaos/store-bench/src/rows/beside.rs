//! What puts feel while something else goes on: nothing, leaders that move, snapshots that clients take.

use std::{cell::RefCell, future::Future, path::Path, time::Duration};

use futures::StreamExt;
use keelstone_etcd_api::pb;
use tokio::time::sleep;

use super::{
    calls::{key, put, value, Numbers},
    steady::{connections, fill},
};
use crate::{
    client::Connection,
    cluster::Cluster,
    constants::{BESIDE_PUTS_PER_S, KEYS, LEADER_MOVE_INTERVAL, VALUE_BYTES},
    histogram::Histogram,
    load::open,
    plan::Plan,
    report::Table,
    system::System,
    Failure, Outcome,
};

const PREFIX: &str = "beside/";
const CONNECTIONS: usize = 24;

/// Each one's name, and what goes on until it is dropped.
const DISTURBANCES: [&str; 3] = ["quiet", "while leadership moves", "while clients take snapshots"];

pub async fn measure(table: &mut Table, systems: &[System], plan: &Plan, dir: &Path) -> Outcome<()> {
    let mut clusters = Vec::new();
    for system in systems {
        let cluster = Cluster::start(system, 3, dir).await?;
        let connections = connections(&cluster, CONNECTIONS).await?;
        fill(&connections, PREFIX, KEYS, VALUE_BYTES).await?;
        clusters.push((cluster, connections));
    }
    let length = Duration::from_secs(plan.reclaim_s);
    for what in DISTURBANCES {
        let mut seen = Vec::new();
        for (cluster, connections) in &clusters {
            let until = async {
                tokio::select! {
                    biased;
                    () = sleep(length) => {}
                    () = disturb(what, cluster) => {}
                }
            };
            seen.push(timed_puts(connections, PREFIX, KEYS, until).await);
        }
        let figures = |figure: fn(&Histogram) -> f64| seen.iter().map(figure).collect::<Vec<_>>();
        let name = format!("{BESIDE_PUTS_PER_S} puts/s {what}");
        table.add_figure(format!("{name}: p99"), "ms", &figures(|seen| seen.at_ms(0.99)));
        table.add_figure(format!("{name}: longest"), "ms", &figures(Histogram::max_ms));
    }
    Ok(())
}

/// Puts at a fixed rate until `until` is over; what fails is said, not counted.
pub async fn timed_puts(
    connections: &[Connection],
    prefix: &'static str,
    keys: u64,
    until: impl Future<Output = ()>,
) -> Histogram {
    let numbers = RefCell::new(Numbers::new(7));
    let body = value(VALUE_BYTES, 1);
    let (latencies, failed) = open(BESIDE_PUTS_PER_S, until, |n| {
        let connection = connections[n as usize % connections.len()].clone();
        let (key, body) = (key(prefix, numbers.borrow_mut().below(keys)), body.clone());
        async move { put(&connection, key, body).await.map(drop) }
    })
    .await;
    if failed > 0 {
        eprintln!("{failed} of {} puts failed", failed + latencies.total());
    }
    latencies
}

async fn disturb(what: &str, cluster: &Cluster) {
    loop {
        let done = match what {
            "quiet" => std::future::pending().await,
            "while leadership moves" => {
                sleep(LEADER_MOVE_INTERVAL).await;
                move_leader(cluster).await
            }
            _ => take_snapshot(cluster).await,
        };
        if let Err(failure) = done {
            eprintln!("{what}: {}: {failure}", cluster.system.name);
            sleep(LEADER_MOVE_INTERVAL).await;
        }
    }
}

async fn move_leader(cluster: &Cluster) -> Outcome<()> {
    let leader = cluster.leader().await?;
    let target = open_connection(cluster, (leader + 1) % cluster.members.len()).await?;
    let status = target.maintenance().status(pb::StatusRequest {}).await?.into_inner();
    let target_id = status.header.map_or(0, |header| header.member_id);
    let leader = open_connection(cluster, leader).await?;
    Ok(leader.maintenance().move_leader(pb::MoveLeaderRequest { target_id }).await.map(drop)?)
}

async fn take_snapshot(cluster: &Cluster) -> Outcome<()> {
    let connection = open_connection(cluster, 0).await?;
    let mut parts = connection.maintenance().snapshot(pb::SnapshotRequest {}).await?.into_inner();
    while let Some(part) = parts.next().await {
        part?;
    }
    Ok(())
}

async fn open_connection(cluster: &Cluster, member: usize) -> Outcome<Connection> {
    let opened = Connection::open(cluster.members[member].port).await;
    opened.map_err(|error| Failure::Failed(format!("connecting to a member: {error}")))
}
