//! How long nobody can write after the leader's process was killed.

use std::{path::Path, rc::Rc, time::Duration};

use tokio::{
    sync::Notify,
    time::{sleep, timeout, Instant},
};

use super::calls::{key, put, value};
use crate::{
    client::Connection, cluster::Cluster, constants::VALUE_BYTES, plan::Plan, report::Table, system::System, Failure,
    Outcome,
};

/// A new put is tried so often, at each member that is left.
const TRY_EVERY: Duration = Duration::from_millis(5);
const GAP_MAX: Duration = Duration::from_secs(30);
/// After a killed member serves again, so that it has caught up.
const REST: Duration = Duration::from_millis(1_500);

pub async fn measure(table: &mut Table, systems: &[System], plan: &Plan, dir: &Path) -> Outcome<()> {
    let mut clusters = Vec::new();
    for system in systems {
        clusters.push(Cluster::start(system, 3, dir).await?);
    }
    let mut gaps = vec![Vec::new(); systems.len()];
    for _ in 0..plan.kills {
        for (cluster, gaps) in clusters.iter_mut().zip(&mut gaps) {
            gaps.push(kill_once(cluster).await?.as_secs_f64() * 1e3);
        }
    }
    for gaps in &mut gaps {
        gaps.sort_by(f64::total_cmp);
    }
    let median: Vec<f64> = gaps.iter().map(|gaps| gaps[gaps.len() / 2]).collect();
    let most: Vec<f64> = gaps.iter().filter_map(|gaps| gaps.last().copied()).collect();
    let kills = plan.kills;
    table.add_figure(format!("leader killed, time to the next write, median of {kills}"), "ms", &median);
    table.add_figure(format!("leader killed, time to the next write, maximum of {kills}"), "ms", &most);
    Ok(())
}

/// Kills the leader and waits for a write, then brings the member back.
async fn kill_once(cluster: &mut Cluster) -> Outcome<Duration> {
    let leader = cluster.leader().await?;
    let mut left = Vec::new();
    for (i, member) in cluster.members.iter().enumerate() {
        if i != leader {
            let connection = crate::io("connecting to a member", Connection::open(member.port).await)?;
            put(&connection, key("failover/", 0), value(VALUE_BYTES, 0)).await?;
            left.push(connection);
        }
    }
    let killed = Instant::now();
    cluster.members[leader].kill();
    let written = Rc::new(Notify::new());
    let tries = async {
        for n in 0.. {
            for connection in &left {
                let (connection, written) = (connection.clone(), Rc::clone(&written));
                tokio::task::spawn_local(async move {
                    if put(&connection, key("failover/", n % 100), value(VALUE_BYTES, n)).await.is_ok() {
                        written.notify_one();
                    }
                });
            }
            sleep(TRY_EVERY).await;
        }
    };
    let gap = timeout(GAP_MAX, async {
        tokio::select! {
            biased;
            () = written.notified() => killed.elapsed(),
            () = tries => GAP_MAX,
        }
    })
    .await
    .map_err(|_| Failure::Failed(format!("{}: no write after the leader was killed", cluster.system.name)))?;
    cluster.launch(leader)?;
    cluster.wait_ready(leader).await?;
    sleep(REST).await;
    Ok(gap)
}
