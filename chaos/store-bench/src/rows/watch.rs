//! How long after a put was sent its event is with all watchers.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use keelstone_etcd_api::pb::{self, watch_request::RequestUnion};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    calls::{end_of, key, put, value},
    steady::connections,
};
use crate::{
    client::Connection,
    cluster::Cluster,
    constants::{KEYS, VALUE_BYTES, WATCHED_PUTS_PER_S, WATCHERS},
    histogram::Histogram,
    load::{open, Sample},
    Failure, Outcome,
};

const WATCHED: &str = "watched/";

/// A watch whose creation was answered. It ends when both are dropped.
pub struct Opened {
    pub responses: Streaming<pb::WatchResponse>,
    pub cancel: mpsc::Sender<pb::WatchRequest>,
}

pub async fn open_watch(connection: &Connection, prefix: &str) -> Outcome<Opened> {
    let (cancel, requests) = mpsc::channel(1);
    let create = pb::WatchCreateRequest {
        key: Bytes::copy_from_slice(prefix.as_bytes()),
        range_end: end_of(prefix),
        ..Default::default()
    };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    drop(cancel.send(request).await);
    let mut responses = connection.watch().watch(ReceiverStream::new(requests)).await?.into_inner();
    match responses.next().await {
        Some(Ok(response)) if response.created && !response.canceled => Ok(Opened { responses, cancel }),
        other => Err(Failure::Failed(format!("a watch was answered with {other:?}"))),
    }
}

/// The value begins with the microseconds from `start` at which the put was due.
fn stamped(start: Instant, rest: &Bytes) -> Bytes {
    let us = start.elapsed().as_micros() as u64;
    [&us.to_be_bytes(), &rest[8..]].concat().into()
}

fn age(start: Instant, value: &[u8]) -> Option<Duration> {
    let us = u64::from_be_bytes(value.get(..8)?.try_into().ok()?);
    start.elapsed().checked_sub(Duration::from_micros(us))
}

pub async fn run(cluster: &Cluster, length: Duration) -> Outcome<Sample> {
    let start = Instant::now();
    let delivered = Rc::new(RefCell::new(Histogram::default()));
    let mut readers = Vec::new();
    let mut cancels = Vec::new();
    for connection in connections(cluster, WATCHERS).await? {
        let Opened { mut responses, cancel } = open_watch(&connection, WATCHED).await?;
        cancels.push(cancel);
        let delivered = Rc::clone(&delivered);
        readers.push(tokio::task::spawn_local(async move {
            while let Some(Ok(response)) = responses.next().await {
                for kv in response.events.into_iter().filter_map(|event| event.kv) {
                    age(start, &kv.value).into_iter().for_each(|age| delivered.borrow_mut().add(age));
                }
            }
        }));
    }
    let writers = connections(cluster, 8 * cluster.members.len()).await?;
    let rest = value(VALUE_BYTES, 0);
    let cpu_before = cluster.cpu_time();
    let (_, failed) = open(WATCHED_PUTS_PER_S, tokio::time::sleep(length), |n| {
        let connection = writers[n as usize % writers.len()].clone();
        let (key, value) = (key(WATCHED, n % KEYS), stamped(start, &rest));
        async move { put(&connection, key, value).await.map(drop) }
    })
    .await;
    let cpu = cluster.cpu_time().saturating_sub(cpu_before);
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    let latencies = delivered.borrow().clone();
    let resident_bytes = cluster.resident_bytes();
    Ok(Sample { latencies, counted: None, failed, took: length, cpu, resident_bytes })
}
