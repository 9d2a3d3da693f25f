//! The client against a real etcd.

mod common;

use std::time::Duration;

use common::Etcd;
use futures::StreamExt;
use keelstone_env::Env;
use keelstone_etcd_api::{mvccpb::event::EventType, pb, ApiError};
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions, KvError, WatchStream};

fn client(endpoints: &[String]) -> GrpcKv {
    GrpcKv::new(&Env::os(), GrpcKvOptions::new(endpoints.to_vec())).unwrap()
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

async fn next(stream: &mut WatchStream) -> Result<pb::WatchResponse, KvError> {
    tokio::time::timeout(Duration::from_secs(5), stream.next()).await.expect("in time").expect("not ended")
}

#[tokio::test]
async fn reads_writes_leases_and_errors() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let kv = client(&etcd.endpoints);

    let first = kv.put(put("a", "1")).await.unwrap().header.unwrap();
    let answer = kv.range(get("a")).await.unwrap();
    assert_eq!((answer.count, answer.kvs[0].mod_revision, &answer.kvs[0].value[..]), (1, first.revision, &b"1"[..]));

    let compare = pb::Compare {
        target: pb::compare::CompareTarget::Mod.into(),
        key: "a".into(),
        target_union: Some(pb::compare::TargetUnion::ModRevision(first.revision)),
        ..Default::default()
    };
    let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put("a", "2"))) };
    let txn = pb::TxnRequest { compare: vec![compare], success: vec![op], failure: vec![] };
    assert!(kv.txn(txn.clone()).await.unwrap().succeeded);
    assert!(!kv.txn(txn).await.unwrap().succeeded);

    let lease = kv.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 }).await.unwrap();
    assert_eq!(kv.lease_keep_alive_once(lease.id).await.unwrap().ttl, 60);
    kv.put(pb::PutRequest { lease: lease.id, ..put("leased", "x") }).await.unwrap();
    kv.lease_revoke(pb::LeaseRevokeRequest { id: lease.id }).await.unwrap();
    assert_eq!(kv.range(get("leased")).await.unwrap().count, 0);
    assert_eq!(kv.lease_keep_alive_once(lease.id).await.unwrap().ttl, 0);

    let gone = kv.lease_revoke(pb::LeaseRevokeRequest { id: lease.id }).await;
    assert!(matches!(gone, Err(KvError::Api(ApiError::LeaseNotFound))), "{gone:?}");
    assert!(matches!(kv.range(get("")).await, Err(KvError::Api(ApiError::EmptyKey))));
    let future = kv.range(pb::RangeRequest { revision: 1_000, ..get("a") }).await;
    assert!(matches!(future, Err(KvError::Api(ApiError::FutureRevision))), "{future:?}");

    let deleted = kv.delete_range(pb::DeleteRangeRequest { key: "a".into(), ..Default::default() }).await.unwrap();
    assert_eq!(deleted.deleted, 1);
    let revision = deleted.header.unwrap().revision;
    kv.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
    let again = kv.compact(pb::CompactionRequest { revision, physical: false }).await;
    assert!(matches!(again, Err(KvError::Api(ApiError::Compacted))), "{again:?}");
}

#[tokio::test]
async fn a_watch_delivers_and_says_compacted() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let kv = client(&etcd.endpoints);
    let revision = kv.put(put("w/a", "1")).await.unwrap().header.unwrap().revision;
    let create = pb::WatchCreateRequest {
        key: "w/".into(),
        range_end: "w0".into(),
        start_revision: revision,
        prev_kv: true,
        ..Default::default()
    };
    let mut watch = kv.watch(create.clone()).await.unwrap();
    assert!(next(&mut watch).await.unwrap().created);
    let replayed = next(&mut watch).await.unwrap();
    assert_eq!(replayed.events[0].kv.as_ref().unwrap().mod_revision, revision);
    kv.put(put("w/a", "2")).await.unwrap();
    let live = next(&mut watch).await.unwrap();
    assert_eq!(live.events[0].prev_kv.as_ref().unwrap().value, "1");
    kv.delete_range(pb::DeleteRangeRequest { key: "w/a".into(), ..Default::default() }).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().events[0].r#type(), EventType::Delete);

    kv.compact(pb::CompactionRequest { revision: revision + 1, physical: true }).await.unwrap();
    let mut late = kv.watch(create).await.unwrap();
    assert!(next(&mut late).await.unwrap().created);
    let last = next(&mut late).await.unwrap();
    assert!(last.canceled && last.compact_revision == revision + 1, "{last:?}");
    assert!(late.next().await.is_none());
}

#[tokio::test]
async fn a_lost_member_is_replaced_by_another() {
    let Some(mut etcd) = Etcd::start(3).await else { return };
    let kv = client(&etcd.endpoints);
    let acknowledged = kv.put(put("a", "1")).await.unwrap().header.unwrap().revision;
    let mut watch = kv.watch(pb::WatchCreateRequest { key: "a".into(), ..Default::default() }).await.unwrap();
    assert!(next(&mut watch).await.unwrap().created);

    etcd.kill(0);
    let ended = next(&mut watch).await;
    assert!(ended.is_err(), "{ended:?}");
    let answer = kv.range(get("a")).await.unwrap();
    assert_eq!(answer.kvs[0].mod_revision, acknowledged);
    kv.put(put("a", "2")).await.unwrap();

    etcd.kill(1);
    // No quorum: every call ends in time, and a write does not claim to know.
    let started = tokio::time::Instant::now();
    let (read, write) = tokio::join!(kv.range(get("a")), kv.put(put("a", "3")));
    assert!(read.is_err(), "{read:?}");
    assert!(write.is_err(), "{write:?}");
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn without_any_member_the_error_says_that_nothing_was_sent() {
    let ports = common::free_ports(2);
    let endpoints: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut options = GrpcKvOptions::new(endpoints);
    options.request_timeout = Duration::from_millis(300);
    let kv = GrpcKv::new(&Env::os(), options).unwrap();
    let write = kv.put(put("a", "1")).await;
    assert!(matches!(write, Err(KvError::Unreachable(_))), "{write:?}");
    assert!(!write.unwrap_err().outcome_unknown());
}

#[tokio::test]
async fn a_watch_says_how_far_it_is_when_asked() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let kv = client(&etcd.endpoints);
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    let create = pb::WatchCreateRequest { key: "p".into(), ..Default::default() };
    let mut watch = kv.watch_with_progress(create, asked).await.unwrap();
    assert!(next(&mut watch).await.unwrap().created);
    let revision = kv.put(put("elsewhere", "1")).await.unwrap().header.unwrap().revision;
    ask.send(()).await.unwrap();
    let progress = next(&mut watch).await.unwrap();
    assert!(progress.events.is_empty() && progress.header.unwrap().revision >= revision);
    drop(ask);
    kv.put(put("p", "1")).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().events.len(), 1);
}
