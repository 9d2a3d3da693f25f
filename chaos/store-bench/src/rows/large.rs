//! A large store: loading, memory, disk, a restart, and puts while space is reclaimed.

use std::{path::Path, time::Duration};

use keelstone_etcd_api::pb;
use tokio::time::{sleep, Instant};

use super::{
    beside::timed_puts,
    calls::{key, put, value},
    steady::connections,
};
use crate::{
    client::Connection, cluster::Cluster, constants::VALUE_BYTES, histogram::Histogram, plan::Plan, report::Table,
    system::System, usage, Failure, Outcome,
};

const PREFIX: &str = "large/";
const LOADING_CLIENTS: usize = 1_000;
/// Before memory and disk are looked at.
const REST: Duration = Duration::from_secs(10);
/// How often a put is tried, and the pause after it was refused.
const TRIES_MAX: usize = 101;
const TRY_PAUSE: Duration = Duration::from_millis(100);
const MIB: f64 = (1 << 20) as f64;

#[derive(Default)]
struct Figures {
    load_per_s: f64,
    load_cpu_us: f64,
    resident_mib: f64,
    disk_mib: f64,
    restart_s: f64,
    restarted_mib: f64,
    quiet: Histogram,
    reclaiming: Histogram,
    reclaimed_mib: f64,
}

/// One system after the other: both at once would share the page cache and the disk's queue.
pub async fn measure(table: &mut Table, systems: &[System], plan: &Plan, dir: &Path) -> Outcome<()> {
    let mut all = Vec::new();
    for system in systems {
        all.push(one(system, plan, dir).await?);
    }
    let mut add = |what: &str, unit, figure: fn(&Figures) -> f64| {
        table.add_figure(format!("large store: {what}"), unit, &all.iter().map(figure).collect::<Vec<_>>());
    };
    add(&format!("load of {} keys of 256 B, 3 members", plan.large_keys), "/s", |f| f.load_per_s);
    add("servers' CPU for each put of the load", "us", |f| f.load_cpu_us);
    add("resident memory of a member", "MiB", |f| f.resident_mib);
    add("disk of a member", "MiB", |f| f.disk_mib);
    add("restart of a member", "s", |f| f.restart_s);
    add("resident memory after the restart", "MiB", |f| f.restarted_mib);
    add("p99 of 500 puts/s, quiet", "ms", |f| f.quiet.at_ms(0.99));
    add("p99 of 500 puts/s, while space is reclaimed", "ms", |f| f.reclaiming.at_ms(0.99));
    add("longest of 500 puts/s, while space is reclaimed", "ms", |f| f.reclaiming.max_ms());
    add("disk of a member after it", "MiB", |f| f.reclaimed_mib);
    Ok(())
}

async fn one(system: &System, plan: &Plan, dir: &Path) -> Outcome<Figures> {
    let mut cluster = Cluster::start(system, 3, dir).await?;
    let mut figures = Figures::default();
    let (cpu, started) = (cluster.cpu_time(), Instant::now());
    write_all(&cluster, 0..plan.large_keys).await?;
    figures.load_per_s = plan.large_keys as f64 / started.elapsed().as_secs_f64();
    figures.load_cpu_us = cluster.cpu_time().saturating_sub(cpu).as_secs_f64() * 1e6 / plan.large_keys as f64;
    sleep(REST).await;
    figures.resident_mib = cluster.resident_bytes() as f64 / MIB;
    figures.disk_mib = cluster.disk_bytes() as f64 / MIB;

    let follower = (cluster.leader().await? + 1) % cluster.members.len();
    cluster.members[follower].stop().await?;
    let started = Instant::now();
    cluster.launch(follower)?;
    cluster.wait_ready(follower).await?;
    figures.restart_s = started.elapsed().as_secs_f64();
    sleep(REST).await;
    figures.restarted_mib = usage::resident_bytes(cluster.members[follower].pid()) as f64 / MIB;

    reclaim(&cluster, plan, &mut figures).await?;
    Ok(figures)
}

/// Puts each key once, as fast as many clients can.
async fn write_all(cluster: &Cluster, keys: std::ops::Range<u64>) -> Outcome<()> {
    let connections = connections(cluster, LOADING_CLIENTS).await?;
    let clients = connections.into_iter().zip(keys.start..).map(|(connection, first)| {
        let end = keys.end;
        async move {
            for n in (first..end).step_by(LOADING_CLIENTS) {
                put_at_last(&connection, n).await?;
            }
            Ok::<(), Failure>(())
        }
    });
    futures::future::try_join_all(clients).await.map(drop)
}

/// Puts a key; asks again if it is refused, as by a member that lags behind.
async fn put_at_last(connection: &Connection, n: u64) -> Outcome<()> {
    let mut tries = 1;
    loop {
        match put(connection, key(PREFIX, n), value(VALUE_BYTES, n)).await {
            Err(_) if tries < TRIES_MAX => tries += 1,
            end => return end.map(drop),
        }
        sleep(TRY_PAUSE).await;
    }
}

/// Makes a third of the data obsolete, then compares puts beside nothing with puts beside its removal.
async fn reclaim(cluster: &Cluster, plan: &Plan, figures: &mut Figures) -> Outcome<()> {
    write_all(cluster, 0..plan.large_keys / 3).await?;
    sleep(REST).await;
    let connections = connections(cluster, 24).await?;
    let length = Duration::from_secs(plan.reclaim_s);
    figures.quiet = timed_puts(&connections, PREFIX, plan.large_keys, sleep(length)).await;
    let work = async {
        let started = Instant::now();
        let done = give_space_back(cluster, &connections[0]).await;
        if let Err(failure) = done {
            eprintln!("reclaiming space: {failure}");
        }
        sleep(length.saturating_sub(started.elapsed())).await;
    };
    figures.reclaiming = timed_puts(&connections, PREFIX, plan.large_keys, work).await;
    sleep(REST).await;
    figures.reclaimed_mib = cluster.disk_bytes() as f64 / MIB;
    Ok(())
}

/// Compacts everything; etcd needs a defragmentation of each member too, one after the other.
async fn give_space_back(cluster: &Cluster, connection: &Connection) -> Outcome<()> {
    let revision = put(connection, key(PREFIX, 0), value(VALUE_BYTES, 0)).await?;
    connection.kv().compact(pb::CompactionRequest { revision, physical: true }).await?;
    if cluster.system.reclaims_by_itself() {
        return Ok(());
    }
    for member in &cluster.members {
        let connection = crate::io("connecting to a member", Connection::open(member.port).await)?;
        connection.maintenance().defragment(pb::DefragmentRequest {}).await?;
    }
    Ok(())
}
