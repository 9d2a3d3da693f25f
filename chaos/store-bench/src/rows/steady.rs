//! Rows of closed loops.

use std::time::Duration;

use futures::{future::LocalBoxFuture, FutureExt, StreamExt};
use keelstone_etcd_api::pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    calls::{get, key, list, put, update, value, Numbers},
    mix, watch, Row,
};
use crate::{
    client::Connection,
    cluster::Cluster,
    constants::{CONNECTIONS_PER_MEMBER, KEYS, LISTED_KEYS, LISTED_VALUE_BYTES, VALUE_BYTES},
    load::{closed, Sample},
    Failure, Outcome,
};

/// Keys of single reads and writes.
pub const PREFIX: &str = "bench/";
/// Keys that are listed.
const LISTED: &str = "list/";
/// Keys that one client updates; its first update of each reads it only.
const UPDATED_KEYS_MAX: u64 = 2;
const PREPARING_CLIENTS: u64 = 64;

type Measured<'a> = LocalBoxFuture<'a, Outcome<Sample>>;

macro_rules! row {
    ($name:literal, $members:literal, $run:expr) => {
        Row { name: $name, members: $members, run: |cluster, length| $run(cluster, length).boxed_local() }
    };
}

pub fn all() -> Vec<Row> {
    vec![
        row!("3 members: put, 1 client", 3, |c, l| puts(c, l, 1)),
        row!("3 members: put, 100 clients", 3, |c, l| puts(c, l, 100)),
        row!("3 members: put, 1000 clients", 3, |c, l| puts(c, l, 1_000)),
        row!("3 members: txn update, 100 clients", 3, |c, l| txns(c, l, 100)),
        row!("3 members: txn update, 1000 clients", 3, |c, l| txns(c, l, 1_000)),
        row!("3 members: linearizable range, 100 clients", 3, |c, l| gets(c, l, 100, false)),
        row!("3 members: serializable range, 100 clients", 3, |c, l| gets(c, l, 100, true)),
        row!("3 members: list of 5 pages of 500 x 1 KiB, 8 clients", 3, lists),
        row!("3 members: Kubernetes-like mix, 50 clients", 3, mix::run),
        row!("3 members: 100 watchers, 500 puts/s (delivery)", 3, watch::run),
        row!("3 members: lease grant, 100 clients", 3, grants),
        row!("3 members: lease keep-alive, 100 streams", 3, keep_alives),
        row!("1 member: put, 1 client", 1, |c, l| puts(c, l, 1)),
        row!("1 member: put, 100 clients", 1, |c, l| puts(c, l, 100)),
        row!("1 member: put, 1000 clients", 1, |c, l| puts(c, l, 1_000)),
        row!("1 member: txn update, 100 clients", 1, |c, l| txns(c, l, 100)),
        row!("1 member: linearizable range, 100 clients", 1, |c, l| gets(c, l, 100, false)),
        row!("1 member: serializable range, 100 clients", 1, |c, l| gets(c, l, 100, true)),
        row!("1 member: list of 5 pages of 500 x 1 KiB, 8 clients", 1, lists),
    ]
}

/// Writes what the rows read.
pub async fn prepare(cluster: &Cluster) -> Outcome<()> {
    let connections = cluster.connect(CONNECTIONS_PER_MEMBER * cluster.members.len()).await?;
    fill(&connections, PREFIX, KEYS, VALUE_BYTES).await?;
    fill(&connections, LISTED, LISTED_KEYS, LISTED_VALUE_BYTES).await?;
    mix::prepare(&connections).await
}

/// Puts `count` keys, from many clients.
pub async fn fill(connections: &[Connection], prefix: &str, count: u64, bytes: usize) -> Outcome<()> {
    let clients = (0..PREPARING_CLIENTS).map(|client| {
        let connection = &connections[client as usize % connections.len()];
        async move {
            for n in (client..count).step_by(PREPARING_CLIENTS as usize) {
                put(connection, key(prefix, n), value(bytes, n)).await?;
            }
            Ok::<(), Failure>(())
        }
    });
    futures::future::try_join_all(clients).await.map(drop)
}

/// One connection for each client, shared when there are more clients than connections.
pub async fn connections(cluster: &Cluster, clients: usize) -> Outcome<Vec<Connection>> {
    let opened = cluster.connect(clients.min(CONNECTIONS_PER_MEMBER * cluster.members.len())).await?;
    Ok((0..clients).map(|client| opened[client % opened.len()].clone()).collect())
}

fn puts(cluster: &Cluster, length: Duration, clients: usize) -> Measured<'_> {
    async move {
        let connections = connections(cluster, clients).await?;
        let value = value(VALUE_BYTES, 0);
        let clients = connections.into_iter().zip(0..).map(|(connection, seed)| {
            let (mut numbers, value) = (Numbers::new(seed), value.clone());
            async move || put(&connection, key(PREFIX, numbers.below(KEYS)), value.clone()).await.map(drop)
        });
        closed(cluster, length, clients.collect()).await
    }
    .boxed_local()
}

/// Each client has keys of its own, so that no txn fails for another.
fn txns(cluster: &Cluster, length: Duration, clients: usize) -> Measured<'_> {
    async move {
        let connections = connections(cluster, clients).await?;
        let keys_each = (KEYS / clients as u64).min(UPDATED_KEYS_MAX);
        let value = value(VALUE_BYTES, 0);
        let clients = connections.into_iter().zip(0..).map(|(connection, client)| {
            let (mut numbers, value) = (Numbers::new(client), value.clone());
            let mut known = vec![-1; keys_each as usize];
            async move || {
                let n = numbers.below(keys_each);
                let expected = &mut known[n as usize];
                *expected = update(&connection, key(PREFIX, client * keys_each + n), value.clone(), *expected).await?;
                Ok(())
            }
        });
        closed(cluster, length, clients.collect()).await
    }
    .boxed_local()
}

fn gets(cluster: &Cluster, length: Duration, clients: usize, serializable: bool) -> Measured<'_> {
    async move {
        let connections = connections(cluster, clients).await?;
        let clients = connections.into_iter().zip(0..).map(|(connection, seed)| {
            let mut numbers = Numbers::new(seed);
            async move || match get(&connection, key(PREFIX, numbers.below(KEYS)), serializable).await? {
                0 => Err(Failure::Failed("a key is missing".into())),
                _ => Ok(()),
            }
        });
        closed(cluster, length, clients.collect()).await
    }
    .boxed_local()
}

fn lists(cluster: &Cluster, length: Duration) -> Measured<'_> {
    async move {
        let clients = connections(cluster, 8).await?.into_iter().map(|connection| {
            async move || match list(&connection, LISTED).await? as u64 {
                LISTED_KEYS => Ok(()),
                keys => Err(Failure::Failed(format!("a list has {keys} keys"))),
            }
        });
        closed(cluster, length, clients.collect()).await
    }
    .boxed_local()
}

async fn grant(connection: &Connection) -> Outcome<i64> {
    let request = pb::LeaseGrantRequest { ttl: 600, id: 0 };
    Ok(connection.lease().lease_grant(request).await?.into_inner().id)
}

fn grants(cluster: &Cluster, length: Duration) -> Measured<'_> {
    async move {
        let clients = connections(cluster, 100).await?.into_iter();
        let clients = clients.map(|connection| async move || grant(&connection).await.map(drop));
        closed(cluster, length, clients.collect()).await
    }
    .boxed_local()
}

fn keep_alives(cluster: &Cluster, length: Duration) -> Measured<'_> {
    async move {
        let mut clients = Vec::new();
        for connection in connections(cluster, 100).await? {
            let id = grant(&connection).await?;
            let (requests, receiver) = mpsc::channel(1);
            let ask = move || pb::LeaseKeepAliveRequest { id };
            // A server may answer the call only once it has a request.
            let _ = requests.send(ask()).await;
            let mut answers = connection.lease().lease_keep_alive(ReceiverStream::new(receiver)).await?.into_inner();
            let _ = answers.next().await;
            clients.push(async move || {
                requests.send(ask()).await.map_err(|_| Failure::Failed("a lease stream ended".into()))?;
                match answers.next().await {
                    Some(Ok(answer)) if answer.ttl > 0 => Ok(()),
                    other => Err(Failure::Failed(format!("a keep-alive was answered with {other:?}"))),
                }
            });
        }
        closed(cluster, length, clients).await
    }
    .boxed_local()
}
