//! Members lost and found: nothing acknowledged is lost, nothing hangs.

use std::time::Duration;

use futures::StreamExt;
use keelstone_env::Env;
use keelstone_etcd_api::{pb, ApiError};
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions, KvError};
use keelstone_store_server::constants::{REQUEST_GRACE, REQUEST_MS_MAX};

use crate::common::{get, put, Cluster};

fn client(cluster: &Cluster) -> GrpcKv {
    GrpcKv::new(&Env::os(), GrpcKvOptions::new(cluster.endpoints())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_leaves_and_comes_back() {
    let mut cluster = Cluster::start(3).await;
    let kv = client(&cluster);
    for i in 0..20 {
        kv.put(put(&format!("k{i}"), "before")).await.unwrap();
    }
    let leader = cluster.leader().await;
    let mut watch = kv.watch(pb::WatchCreateRequest { key: "k0".into(), ..Default::default() }).await.unwrap();
    assert!(watch.next().await.unwrap().unwrap().created);

    cluster.stop(leader).await;
    cluster.wait_for_leader().await;
    assert_ne!(cluster.leader().await, leader);
    kv.put(put("k0", "meanwhile")).await.unwrap();
    let answer = kv.range(pb::RangeRequest { range_end: "l".into(), count_only: true, ..get("k") }).await.unwrap();
    assert_eq!(answer.count, 20);

    cluster.restart(leader).await;
    cluster.wait_for_leader().await;
    let returned = cluster.members[leader].as_ref().unwrap().kv();
    let answer = returned.range(get("k0")).await.unwrap();
    assert_eq!(answer.kvs[0].value, "meanwhile");
    cluster.stop_all().await;
}

/// As in etcd, where the member that took a write answers once it has applied it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_seen_at_once_by_the_member_that_took_it() {
    let cluster = Cluster::start(3).await;
    for i in 0..60 {
        let kv = cluster.members[i % 3].as_ref().unwrap().kv();
        let written = kv.put(put("a", &i.to_string())).await.unwrap().header.unwrap().revision;
        let read = kv.range(pb::RangeRequest { serializable: true, ..get("a") }).await.unwrap();
        assert!(read.header.unwrap().revision >= written, "member {} lags behind its own answers", i % 3);
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_every_call_ends_in_time_and_says_why() {
    let mut cluster = Cluster::start(3).await;
    let kv = client(&cluster);
    kv.put(put("a", "1")).await.unwrap();
    let leader = cluster.leader().await;
    let local = cluster.members[leader].as_ref().unwrap().kv();
    let mut watch = local.watch(pb::WatchCreateRequest { key: "b".into(), ..Default::default() }).await.unwrap();
    assert!(watch.next().await.unwrap().unwrap().created);
    for follower in (0..3).filter(|index| *index != leader) {
        cluster.stop(follower).await;
    }

    let started = tokio::time::Instant::now();
    let (read, write, lease) = tokio::join!(
        local.range(get("a")),
        local.put(put("a", "2")),
        local.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 })
    );
    assert!(started.elapsed() < Duration::from_millis(REQUEST_MS_MAX) + REQUEST_GRACE + Duration::from_secs(1));
    assert!(read.is_err() && write.is_err() && lease.is_err(), "{read:?} {write:?} {lease:?}");
    // The followers left in good order, so that this member knows what is in its log; others may answer from it.
    let stale = local.range(pb::RangeRequest { serializable: true, ..get("a") }).await.unwrap();
    assert_eq!(stale.kvs[0].value, "1");
    // A watch that needs a leader does not stay silent.
    let ended = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("an end in time");
    assert!(matches!(ended, Some(Err(KvError::Api(ApiError::NoLeader)))), "{ended:?}");
    assert!(local.status().await.unwrap().errors.contains(&ApiError::NoLeader.text().to_owned()));
    let refused = local.put(put("a", "3")).await;
    assert!(matches!(&refused, Err(KvError::Api(ApiError::NoLeader | ApiError::Timeout)) | Err(KvError::Unknown(_))));

    for follower in (0..3).filter(|index| *index != leader) {
        cluster.restart(follower).await;
    }
    cluster.wait_for_leader().await;
    kv.put(put("a", "4")).await.unwrap();
    assert_eq!(kv.range(get("a")).await.unwrap().kvs[0].value, "4");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_survives_a_restart_of_all_members() {
    let mut cluster = Cluster::start(1).await;
    let kv = cluster.members[0].as_ref().unwrap().kv();
    let lease = kv.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 0 }).await.unwrap().id;
    kv.put(pb::PutRequest { lease, ..put("leased", "x") }).await.unwrap();
    let last = kv.put(put("a", "1")).await.unwrap().header.unwrap();
    drop(kv);
    cluster.stop(0).await;
    cluster.restart(0).await;
    cluster.wait_for_leader().await;
    let kv = cluster.members[0].as_ref().unwrap().kv();
    let found = kv.range(get("a")).await.unwrap();
    assert_eq!(found.kvs[0].mod_revision, last.revision);
    let header = found.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id), (last.cluster_id, last.member_id));
    assert_eq!(kv.lease_keep_alive_once(lease).await.unwrap().ttl, 600);
    cluster.stop_all().await;
}
