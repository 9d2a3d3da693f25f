//! What an API server does: reads, guarded updates, creations, deletions and lists of objects of 1 KiB, beside
//! watches of each kind of object.

use std::time::Duration;

use futures::StreamExt;
use keelstone_etcd_api::pb::{self, RangeRequest};

use super::{
    calls::{end_of, get, key, put, update, value, Numbers},
    steady::{connections, fill},
    watch::{open_watch, Opened},
};
use crate::{
    client::Connection,
    cluster::Cluster,
    load::{closed, Sample},
    Failure, Outcome,
};

const CLIENTS: usize = 50;
const KINDS: [&str; 5] =
    ["/registry/pods/", "/registry/nodes/", "/registry/leases/", "/registry/events/", "/registry/cm/"];
const OBJECTS_PER_KIND: u64 = 500;
const OBJECT_BYTES: usize = 1_024;
const LIST_LIMIT: i64 = 100;

pub async fn prepare(connections: &[Connection]) -> Outcome<()> {
    for kind in KINDS {
        fill(connections, kind, OBJECTS_PER_KIND, OBJECT_BYTES).await?;
    }
    Ok(())
}

/// Of 100 requests: 35 reads, 35 guarded updates (a read first when another was faster), 10 creations, 10
/// deletions, 10 lists of 100 objects; two watches of each kind take all events.
pub async fn run(cluster: &Cluster, length: Duration) -> Outcome<Sample> {
    let mut watches = Vec::new();
    for (n, connection) in cluster.connect(2 * KINDS.len()).await?.into_iter().enumerate() {
        let Opened { mut responses, cancel } = open_watch(&connection, KINDS[n % KINDS.len()]).await?;
        let reader = tokio::task::spawn_local(async move { while let Some(Ok(_)) = responses.next().await {} });
        watches.push((reader, cancel));
    }
    let object = value(OBJECT_BYTES, 0);
    let clients = connections(cluster, CLIENTS).await?.into_iter().zip(0..).map(|(connection, client)| {
        let (mut numbers, object) = (Numbers::new(client), object.clone());
        let mut created = 0_u64;
        async move || {
            let kind = KINDS[numbers.below(KINDS.len() as u64) as usize];
            let name = key(kind, numbers.below(OBJECTS_PER_KIND));
            let own = |n: u64| key(&format!("{kind}own/{client}/"), n % 64);
            match numbers.below(100) {
                0..35 => get(&connection, name, false).await.map(drop),
                35..70 => {
                    let known = get(&connection, name.clone(), false).await?;
                    update(&connection, name, object.clone(), known).await.map(drop)
                }
                70..80 => {
                    created += 1;
                    put(&connection, own(created), object.clone()).await.map(drop)
                }
                80..90 => {
                    let request = pb::DeleteRangeRequest { key: own(created), ..Default::default() };
                    Ok(connection.kv().delete_range(request).await.map(drop)?)
                }
                _ => {
                    let (key, range_end) = (kind.into(), end_of(kind));
                    let request = RangeRequest { key, range_end, limit: LIST_LIMIT, ..Default::default() };
                    let kvs = connection.kv().range(request).await?.into_inner().kvs;
                    let full = kvs.len() as i64 == LIST_LIMIT;
                    full.then_some(()).ok_or_else(|| Failure::Failed("a list is too short".into()))
                }
            }
        }
    });
    let sample = closed(cluster, length, clients.collect()).await;
    for (reader, cancel) in watches {
        reader.abort();
        drop(cancel);
    }
    sample
}
