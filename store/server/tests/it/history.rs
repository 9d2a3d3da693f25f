//! Ranges as streams, the quota's alarm, and history that compaction must leave.

use std::time::Duration;

use keelstone_etcd_api::pb::{self, kv_client::KvClient, maintenance_client::MaintenanceClient};
use tonic::{transport::Channel, Code};

use crate::{common::*, requests::all};

/// Time that something in the background may take.
const PATIENCE: Duration = Duration::from_secs(30);

async fn channel(cluster: &Cluster, member: usize) -> Channel {
    let endpoint = format!("http://{}", cluster.endpoints()[member]);
    Channel::from_shared(endpoint).unwrap().connect().await.unwrap()
}

fn compact(revision: i64) -> pb::CompactionRequest {
    pb::CompactionRequest { revision, physical: true }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_merges_to_the_answer_of_a_range() {
    let cluster = Cluster::start_with(1, |config| config.request_bytes_max = 100_000).await;
    let mut kv = KvClient::new(channel(&cluster, 0).await);
    for i in 0..60 {
        kv.put(put(&format!("k{i:02}"), &"v".repeat(10_000))).await.unwrap();
    }
    let expected = kv.range(all()).await.unwrap().into_inner();
    let mut stream = kv.range_stream(all()).await.unwrap().into_inner();
    let (mut merged, mut chunks) = (pb::RangeResponse::default(), 0);
    while let Some(chunk) = stream.message().await.unwrap() {
        let chunk = chunk.range_response.unwrap();
        assert!(merged.header.is_none(), "the header comes last");
        merged.kvs.extend(chunk.kvs);
        (merged.header, merged.count, merged.more) = (chunk.header, chunk.count, chunk.more);
        chunks += 1;
    }
    assert_eq!(merged, expected);
    assert!(chunks >= 6, "{chunks}");
    let sorted = pb::RangeRequest { sort_order: 2, ..all() };
    assert_eq!(kv.range_stream(sorted).await.unwrap_err().code(), Code::Unimplemented);
    let filtered = pb::RangeRequest { max_mod_revision: 5, ..all() };
    assert_eq!(kv.range_stream(filtered).await.unwrap_err().code(), Code::Unimplemented);
    let future = pb::RangeRequest { revision: 1_000, ..all() };
    assert_eq!(kv.range_stream(future).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(kv.range_stream(get("")).await.unwrap_err().code(), Code::InvalidArgument);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_leaves_what_is_younger_than_the_retention() {
    let retention = Duration::from_secs(2);
    let cluster = Cluster::start_with(3, |config| config.history_retention = Some(retention)).await;
    let mut kv = KvClient::new(channel(&cluster, 0).await);
    for i in 0..5 {
        kv.put(put("k", &i.to_string())).await.unwrap();
    }
    let newest = kv.range(get("k")).await.unwrap().into_inner().header.unwrap().revision;
    // Nothing is old enough yet: the call succeeds, as its client wants, and takes nothing.
    kv.compact(compact(newest)).await.unwrap();
    let past = pb::RangeRequest { revision: 2, ..get("k") };
    assert_eq!(kv.range(past.clone()).await.unwrap().into_inner().kvs[0].value, "0");
    assert_eq!(kv.compact(compact(newest + 1)).await.unwrap_err().code(), Code::OutOfRange);
    let aged = async {
        while kv.range(past.clone()).await.is_ok() {
            kv.put(put("other", "x")).await.unwrap();
            kv.compact(compact(newest)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, aged).await.expect("old history goes once it may");
    let current = kv.range(get("k")).await.unwrap().into_inner().header.unwrap().revision;
    kv.compact(compact(current)).await.unwrap();
    assert!(cluster.running().all(|member| member.mvcc().compacted_revision() < current), "the youngest is kept");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_alarm_comes_and_goes_by_itself() {
    let cluster = Cluster::start_with(1, |config| config.quota_bytes = 300_000).await;
    let channel = channel(&cluster, 0).await;
    let mut kv = KvClient::new(channel.clone());
    let mut maintenance = MaintenanceClient::new(channel);
    let mut last = 0;
    let refused = loop {
        match kv.put(put("k", &"v".repeat(20_000))).await {
            Ok(answer) => last = answer.into_inner().header.unwrap().revision,
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "etcdserver: mvcc: database space exceeded");
    // Reads, deletions and compactions go on; once space is back, so do writes, with nobody's help.
    kv.compact(compact(last)).await.unwrap();
    maintenance.defragment(pb::DefragmentRequest {}).await.unwrap();
    let cleared = async {
        while kv.put(put("k", "small")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, cleared).await.expect("space is back");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_removes_what_one_was_asked_to_compact() {
    let cluster = Cluster::start(3).await;
    let mut kv = KvClient::new(channel(&cluster, 0).await);
    let mut last = 0;
    for _ in 0..50 {
        last = kv.put(put("k", &"v".repeat(10_000))).await.unwrap().into_inner().header.unwrap().revision;
    }
    kv.compact(compact(last)).await.unwrap();
    let removed = async {
        while cluster.running().any(|member| member.mvcc().refresh_in_use_bytes().unwrap() > 100_000) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, removed).await.expect("all members removed it");
    cluster.stop_all().await;
}
