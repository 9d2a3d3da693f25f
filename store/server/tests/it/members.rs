//! Membership as clients and operators see it: the Cluster service, joining, learners, damaged members.

use std::{sync::Arc, time::Duration};

use keelstone_engine::{MemEngine, MemOptions};
use keelstone_env::{channel, ChannelOptions, Env};
use keelstone_etcd_api::{
    pb::{self, cluster_client::ClusterClient, kv_client::KvClient, maintenance_client::MaintenanceClient},
    ApiError,
};
use keelstone_store_server::{InitialMember, RunningStore, StoreConfig, StoreError, StoreServer};
use tonic::{transport::Channel, Status};

use crate::common::{etcd, get, put, Cluster};

fn dial(member: &RunningStore) -> Channel {
    channel(&Env::os(), member.client_address(), ChannelOptions::default()).unwrap()
}

fn error<T: std::fmt::Debug>(result: Result<T, Status>) -> ApiError {
    let status = result.unwrap_err();
    ApiError::from_status(&status).unwrap_or_else(|| panic!("{status:?}"))
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let came_true = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), came_true).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

/// Starts a member of its own folder.
async fn start(config: StoreConfig) -> Result<RunningStore, StoreError> {
    let engine = MemEngine::open(Env::os(), config.data_dir.join("engine"), MemOptions::default()).unwrap();
    StoreServer::start(Env::os(), config, Arc::new(engine)).await
}

/// The configuration of a member that joins `members` under `peer_url`.
fn joining(name: &str, peer_url: &str, members: &[pb::Member], dir: &std::path::Path) -> StoreConfig {
    let mut initial: Vec<InitialMember> = members
        .iter()
        .filter(|member| !member.peer_ur_ls.contains(&peer_url.to_owned()))
        .map(|member| InitialMember { name: member.name.clone(), peer_url: member.peer_ur_ls[0].clone() })
        .collect();
    initial.push(InitialMember { name: name.to_owned(), peer_url: peer_url.to_owned() });
    let mut config = StoreConfig::new(name, initial, dir.join(name));
    config.bootstrap = false;
    config
}

fn free_url() -> String {
    format!("http://127.0.0.1:{}", etcd::free_ports(1)[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_joins_is_promoted_by_itself_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(1).await;
    let first = cluster.members[0].as_ref().unwrap();
    first.kv().put(put("a", "1")).await.unwrap();
    let mut client = ClusterClient::new(dial(first));
    let url = free_url();
    let add = |url: &str, is_learner| pb::MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner };

    let added = client.member_add(add(&url, false)).await.unwrap().into_inner();
    let member = added.member.unwrap();
    assert!(member.name.is_empty() && !member.is_learner && added.members.len() == 2);
    assert_eq!(error(client.member_add(add(&url, false)).await), ApiError::PeerUrlExists);
    assert_eq!(error(client.member_add(add("nonsense", false)).await), ApiError::BadMemberUrls);
    assert_eq!(error(client.member_add(add(&free_url(), false)).await), ApiError::NotEnoughStarted);
    assert_eq!(error(client.member_promote(pb::MemberPromoteRequest { id: 77 }).await), ApiError::MemberNotFound);

    // One that was not added finds no place.
    let stranger = joining("stranger", &free_url(), &added.members, dir.path());
    let refused = tokio::time::timeout(Duration::from_millis(500), start(stranger)).await;
    assert!(refused.is_err(), "it goes on looking for a while");

    let config = joining("second", &url, &added.members, dir.path());
    let second = start(config.clone()).await.unwrap();
    assert_eq!((second.member_id(), second.cluster_id()), (member.id, first.cluster_id()));
    eventually("it votes", || first.status().voters.len() == 2).await;
    eventually("it can be read", || second.status().leader.is_some() && !second.status().is_learner).await;
    assert_eq!(second.kv().range(get("a")).await.unwrap().kvs[0].value, "1");
    let list = client.member_list(pb::MemberListRequest { linearizable: true }).await.unwrap().into_inner().members;
    let shown = list.iter().find(|listed| listed.id == member.id).unwrap();
    assert_eq!((shown.name.as_str(), shown.is_learner), ("second", false));
    assert_eq!(shown.client_ur_ls, [format!("http://{}", second.client_address())]);

    // It finds itself again, and any member carries changes out.
    second.shutdown().await;
    let second = start(config.clone()).await.unwrap();
    second.wait_for_leader().await;
    let mut client = ClusterClient::new(dial(&second));
    let moved = pb::MemberUpdateRequest { id: first.member_id(), peer_ur_ls: vec![url.clone()] };
    assert_eq!(error(client.member_update(moved).await), ApiError::PeerUrlExists);
    eventually("both are heard", || first.status().leader.is_some()).await;
    let mut client = ClusterClient::new(dial(first));
    client.member_remove(pb::MemberRemoveRequest { id: member.id }).await.unwrap();
    let why = tokio::time::timeout(Duration::from_secs(10), second.ended()).await.expect("it notices");
    assert!(why.contains("removed"), "{why}");
    let late = second.kv().put(put("b", "1")).await;
    assert!(late.is_err(), "{late:?}");
    second.shutdown().await;
    let again = start(config).await.map(|_| ()).unwrap_err();
    assert!(again.to_string().contains("was removed from cluster"), "{again}");
    first.kv().put(put("a", "2")).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_serves_only_its_status_and_what_may_be_stale() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_with(1, |config| config.promote_learners = false).await;
    let first = cluster.members[0].as_ref().unwrap();
    first.kv().put(put("a", "1")).await.unwrap();
    let mut client = ClusterClient::new(dial(first));
    let url = free_url();
    let add = pb::MemberAddRequest { peer_ur_ls: vec![url.clone()], is_learner: true };
    let added = client.member_add(add).await.unwrap().into_inner();
    assert!(added.member.as_ref().unwrap().is_learner);
    let another = pb::MemberAddRequest { peer_ur_ls: vec![free_url()], is_learner: true };
    assert_eq!(error(client.member_add(another).await), ApiError::TooManyLearners);
    let id = added.member.unwrap().id;
    assert_eq!(error(client.member_promote(pb::MemberPromoteRequest { id }).await), ApiError::LearnerNotReady);

    let learner = start(joining("learner", &url, &added.members, dir.path())).await.unwrap();
    eventually("it has the data", || learner.mvcc().revision() == 2 && learner.status().is_learner).await;
    let mut kv = KvClient::new(dial(&learner));
    assert_eq!(error(kv.range(get("a")).await), ApiError::NotSupportedForLearner);
    assert_eq!(error(kv.put(put("a", "2")).await), ApiError::NotSupportedForLearner);
    let stale = kv.range(pb::RangeRequest { serializable: true, ..get("a") }).await.unwrap().into_inner();
    assert_eq!(stale.kvs[0].value, "1");
    let status = MaintenanceClient::new(dial(&learner)).status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert!(status.is_learner);
    let list = ClusterClient::new(dial(&learner)).member_list(pb::MemberListRequest::default()).await;
    assert_eq!(error(list), ApiError::NotSupportedForLearner);
    let mut maintenance = MaintenanceClient::new(dial(first));
    let target_id = learner.member_id();
    let moved = maintenance.move_leader(pb::MoveLeaderRequest { target_id }).await;
    assert_eq!(error(moved), ApiError::BadLeaderTransferee);

    let promoted = async {
        while client.member_promote(pb::MemberPromoteRequest { id }).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), promoted).await.expect("it comes to be in sync");
    assert_eq!(error(client.member_promote(pb::MemberPromoteRequest { id }).await), ApiError::MemberNotLearner);
    eventually("it serves all", || !learner.status().is_learner).await;
    assert_eq!(kv.range(get("a")).await.unwrap().into_inner().kvs[0].value, "1");
    learner.shutdown().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downgrades_are_answered_as_etcd_does() {
    use pb::downgrade_request::DowngradeAction::{Cancel, Enable, Validate};
    let cluster = Cluster::start(1).await;
    let mut client = MaintenanceClient::new(dial(cluster.members[0].as_ref().unwrap()));
    let mut ask = async |action: pb::downgrade_request::DowngradeAction, version: &str| {
        let request = pb::DowngradeRequest { action: action.into(), version: version.to_owned() };
        error(client.downgrade(request).await)
    };
    assert_eq!(ask(Validate, "three").await, ApiError::WrongDowngradeFormat);
    assert_eq!(ask(Validate, "3.4").await, ApiError::InvalidDowngradeTarget);
    assert_eq!(ask(Enable, "3.5.0").await, ApiError::InvalidDowngradeTarget);
    assert_eq!(ask(Cancel, "").await, ApiError::NoInflightDowngrade);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_another_member_or_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let initial = InitialMember::parse_list(&format!("a={}", free_url())).unwrap();
    let config = StoreConfig::new("a", initial.clone(), dir.path().join("a"));
    let running = start(config.clone()).await.unwrap();
    let engine = MemEngine::open(Env::os(), dir.path().join("other engine"), MemOptions::default()).unwrap();
    let mut same_folder = config.clone();
    same_folder.listen_peer = "127.0.0.1:0".into();
    let second = StoreServer::start(Env::os(), same_folder, Arc::new(engine)).await.map(|_| ()).unwrap_err();
    assert!(second.to_string().contains("another process uses the data"), "{second}");
    running.shutdown().await;
    let mut foreign = config.clone();
    foreign.cluster_token = "another".into();
    let refused = start(foreign).await.map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("holds the data of member"), "{refused}");
    start(config).await.unwrap().shutdown().await;
}
