use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;

use super::{median, milliseconds};
use crate::{
    cluster::Cluster,
    constants::{REQUEST_MAX, SETTLE_MAX},
    failure::{Failure, Outcome},
    http_client::{Connection, Endpoint},
    report::eventually,
    store_members,
    writer::Writer,
};

/// The writer runs so long before a kill, and so long after writes go on.
const AROUND: Duration = Duration::from_secs(2);

/// Kills the store's leader again and again while a client writes each 20 ms through the printed address.
pub async fn failover(cluster: Cluster, rounds: u32) -> Outcome<()> {
    let endpoint = Endpoint::new(&cluster.balancer()?)?;
    let namespace = format!("failover-{}", std::process::id());
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let mut connection = Connection::new(&endpoint);
    let made = connection.send(Method::POST, "/api/v1/namespaces", Some(&body), REQUEST_MAX).await;
    made.success().map_err(Failure::Broken)?;
    println!("failover: {rounds} x kill -9 of the store's leader, one write each 20 ms through {}", endpoint.address);
    let mut gaps = Vec::new();
    let writer = Writer::start(&endpoint, &namespace);
    for round in 1..=rounds {
        let (leader, _) = eventually("a leader", SETTLE_MAX, || store_members::leader(&cluster)).await?;
        tokio::time::sleep(AROUND).await;
        let killed = Instant::now();
        cluster.kill(&leader, &[]).await?;
        eventually("writes go on", SETTLE_MAX, || async {
            writer.record().answered_since(killed).then_some(()).ok_or("no write is acknowledged".to_owned())
        })
        .await?;
        tokio::time::sleep(AROUND).await;
        let gap = writer.record().longest_gap(killed);
        println!("  round {round}: {leader} killed, {} without an acknowledged write", milliseconds(gap));
        gaps.push(gap);
        cluster.up().await?;
    }
    let max = gaps.iter().max().copied().unwrap_or_default();
    let record = writer.stop_and_verify(&endpoint).await.map_err(Failure::Broken)?;
    println!(
        "failover: median {}, max {}; {} acknowledged writes, none lost",
        milliseconds(median(&mut gaps)),
        milliseconds(max),
        record.acknowledged.len()
    );
    let path = format!("/api/v1/namespaces/{namespace}");
    connection.send(Method::DELETE, &path, None, REQUEST_MAX).await.success().map_err(Failure::Broken)?;
    Ok(())
}
