//! Watches beyond what the comparison with etcd shows.

use std::time::Duration;

use futures::StreamExt;
use keelstone_env::{channel, ChannelOptions, Env};
use keelstone_etcd_api::pb::{self, watch_client::WatchClient, watch_request::RequestUnion};
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::common::{get, put, Cluster};

/// One stream with its requests.
struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Stream {
    async fn open(cluster: &Cluster) -> Self {
        let channel = channel(&Env::os(), &cluster.endpoints()[0], ChannelOptions::default()).unwrap();
        let (requests, mut receiver) = mpsc::channel(16);
        let outgoing = async_stream::stream! {
            while let Some(request) = receiver.recv().await {
                yield request;
            }
        };
        let answers = WatchClient::new(channel).watch(outgoing).await.unwrap().into_inner();
        Self { requests, answers }
    }

    async fn send(&self, union: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(union) }).await.unwrap();
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.send(RequestUnion::CreateRequest(create)).await;
        self.next().await
    }

    async fn next(&mut self) -> pb::WatchResponse {
        let answer = tokio::time::timeout(Duration::from_secs(10), self.answers.message()).await;
        answer.expect("an answer in time").unwrap().expect("the stream goes on")
    }
}

fn on(key: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.to_owned().into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_cancels_and_progress_on_one_stream() {
    let cluster = Cluster::start(1).await;
    let kv = cluster.members[0].as_ref().unwrap().kv();
    let mut stream = Stream::open(&cluster).await;

    // Nothing to speak of: no answer to this one.
    stream.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    assert_eq!(stream.create(on("a")).await.watch_id, 0);
    assert_eq!(stream.create(pb::WatchCreateRequest { watch_id: 5, ..on("b") }).await.watch_id, 5);
    let twice = stream.create(pb::WatchCreateRequest { watch_id: 5, ..on("c") }).await;
    assert!(twice.created && twice.canceled && twice.watch_id == -1, "{twice:?}");
    assert_eq!(twice.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    assert_eq!(stream.create(on("c")).await.watch_id, 1);
    let negative = stream.create(pb::WatchCreateRequest { start_revision: -1, ..on("c") }).await;
    assert!(negative.canceled && negative.cancel_reason.contains("compacted"), "{negative:?}");

    let revision = kv.put(put("elsewhere", "1")).await.unwrap().header.unwrap().revision;
    stream.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    let progress = stream.next().await;
    assert!(progress.watch_id == -1 && progress.events.is_empty());
    assert!(progress.header.unwrap().revision >= revision);

    stream.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 0 })).await;
    let cancelled = stream.next().await;
    assert!(cancelled.canceled && cancelled.watch_id == 0);
    kv.put(put("a", "unseen")).await.unwrap();
    kv.put(put("b", "seen")).await.unwrap();
    let seen = stream.next().await;
    assert_eq!((seen.watch_id, &seen.events[0].kv.as_ref().unwrap().value[..]), (5, &b"seen"[..]));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_watch_says_by_itself_how_far_it_is() {
    let quick = |config: &mut keelstone_store_server::StoreConfig| {
        config.watch_progress_interval = Duration::from_millis(100);
    };
    let cluster = Cluster::start_with(1, quick).await;
    let kv = cluster.members[0].as_ref().unwrap().kv();
    let mut watch = kv.watch(pb::WatchCreateRequest { progress_notify: true, ..on("a") }).await.unwrap();
    assert!(watch.next().await.unwrap().unwrap().created);
    let revision = kv.put(put("elsewhere", "1")).await.unwrap().header.unwrap().revision;
    let reached = async { while watch.next().await.unwrap().unwrap().header.unwrap().revision < revision {} };
    tokio::time::timeout(Duration::from_secs(5), reached).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_reading_holds_up_nobody_and_misses_nothing() {
    let cluster = Cluster::start(1).await;
    let kv = cluster.members[0].as_ref().unwrap().kv();
    let whole = pb::WatchCreateRequest { range_end: "l".into(), ..on("k") };
    let mut slow = kv.watch(whole.clone()).await.unwrap();
    let mut quick = kv.watch(whole).await.unwrap();
    assert!(slow.next().await.unwrap().unwrap().created && quick.next().await.unwrap().unwrap().created);
    let writes = 2_000;
    let writer = async {
        let all = (0..writes).map(|i| {
            let kv = &kv;
            async move { kv.put(put(&format!("k{}", i % 7), &i.to_string())).await.unwrap() }
        });
        futures::stream::iter(all).buffer_unordered(64).count().await
    };
    let count = |mut watch: keelstone_store_client::WatchStream| async move {
        let mut revisions = Vec::new();
        while revisions.len() < writes {
            let events = watch.next().await.unwrap().unwrap().events;
            revisions.extend(events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
        }
        revisions
    };
    let (written, seen) = tokio::join!(writer, count(quick));
    assert_eq!(written, writes);
    let seen_late = tokio::time::timeout(Duration::from_secs(10), count(slow)).await.unwrap();
    assert!(seen.is_sorted() && seen.first() < seen.last());
    assert_eq!(seen, seen_late);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_streams_with_an_error_that_asks_for_another_member() {
    let cluster = Cluster::start(1).await;
    let kv = cluster.members[0].as_ref().unwrap().kv();
    kv.range(get("a")).await.unwrap();
    let mut stream = Stream::open(&cluster).await;
    assert!(stream.create(on("a")).await.created);
    let (ended, ()) = tokio::join!(stream.answers.message(), cluster.stop_all());
    let status = ended.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "etcdserver: server stopped"));
}
