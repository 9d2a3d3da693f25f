//! The lock and election services by a raw client.

use std::time::Duration;

use keelstone_env::{channel, ChannelOptions, Env};
use keelstone_etcd_api::{
    pb::{self, kv_client::KvClient, lease_client::LeaseClient},
    v3electionpb::{self, election_client::ElectionClient},
    v3lockpb::{self, lock_client::LockClient},
    ApiError,
};
use tonic::transport::Channel;

use crate::{
    auth::refused,
    common::{get, Cluster},
};

/// Time that a caller has to get its turn.
const TURN_MS_MAX: u64 = 10_000;

#[derive(Clone)]
struct Client {
    lock: LockClient<Channel>,
    election: ElectionClient<Channel>,
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
}

impl Client {
    fn new(endpoint: &str) -> Self {
        let options = ChannelOptions { keep_alive_interval: Duration::from_secs(60), ..ChannelOptions::default() };
        let channel = channel(&Env::os(), endpoint, options).unwrap();
        Self {
            lock: LockClient::new(channel.clone()),
            election: ElectionClient::new(channel.clone()),
            kv: KvClient::new(channel.clone()),
            lease: LeaseClient::new(channel),
        }
    }

    async fn grant(&mut self, id: i64) {
        self.lease.lease_grant(pb::LeaseGrantRequest { id, ttl: 600 }).await.unwrap();
    }

    async fn revoke(&mut self, id: i64) {
        self.lease.lease_revoke(pb::LeaseRevokeRequest { id }).await.unwrap();
    }

    /// The key, and its creation revision: what fences.
    async fn lock(&mut self, lease: i64) -> (String, i64) {
        let request = v3lockpb::LockRequest { name: "l".into(), lease };
        let response = self.lock.lock(request).await.unwrap().into_inner();
        let key = String::from_utf8(response.key.to_vec()).unwrap();
        let kv = self.kv.range(get(&key)).await.unwrap().into_inner().kvs.pop().unwrap();
        assert_eq!(kv.lease, lease);
        (key, kv.create_revision)
    }

    async fn campaign(&mut self, lease: i64, value: &str) -> v3electionpb::LeaderKey {
        let request = v3electionpb::CampaignRequest { name: "e".into(), lease, value: value.to_owned().into() };
        self.election.campaign(request).await.unwrap().into_inner().leader.unwrap()
    }

    async fn leader(&mut self) -> Result<String, tonic::Status> {
        let request = v3electionpb::LeaderRequest { name: "e".into() };
        let kv = self.election.leader(request).await?.into_inner().kv.unwrap();
        Ok(String::from_utf8(kv.value.to_vec()).unwrap())
    }

    /// How many keys wait or own in a queue.
    async fn queued(&mut self, prefix: &'static str, end: &'static str) -> i64 {
        let request = pb::RangeRequest { key: prefix.into(), range_end: end.into(), ..Default::default() };
        self.kv.range(request).await.unwrap().into_inner().count
    }

    async fn wait_until_queued(&mut self, prefix: &'static str, end: &'static str, count: i64) {
        let reached = async {
            while self.queued(prefix, end).await != count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_millis(TURN_MS_MAX), reached).await.expect("the queue has changed");
    }
}

async fn in_time<T>(task: tokio::task::JoinHandle<T>) -> T {
    tokio::time::timeout(Duration::from_millis(TURN_MS_MAX), task).await.expect("its turn").unwrap()
}

/// Who owns, in which order, under which revisions.
async fn locks(endpoint: &str) -> Vec<String> {
    let mut said = Vec::new();
    let mut client = Client::new(endpoint);
    for lease in [0xa1, 0xb2, 0xc3] {
        client.grant(lease).await;
    }
    let (first, fence) = client.lock(0xa1).await;
    said.push(first.clone());
    assert_eq!(client.lock(0xa1).await, (first.clone(), fence), "again by the same lease is the same");
    let another = client.clone();
    let waiting = |lease: i64| {
        let mut client = another.clone();
        Env::os().spawn(async move { client.lock(lease).await })
    };
    let second = waiting(0xb2);
    client.wait_until_queued("l/", "l0", 2).await;
    let third = waiting(0xc3);
    client.wait_until_queued("l/", "l0", 3).await;
    assert!(!second.is_finished() && !third.is_finished());
    client.lock.unlock(v3lockpb::UnlockRequest { key: first.into() }).await.unwrap();
    let (key, later) = in_time(second).await;
    said.push(key);
    assert!(later > fence, "each owner has a later revision than those before");
    // An owner whose lease ends is one no more.
    client.revoke(0xb2).await;
    let (key, last) = in_time(third).await;
    said.push(key);
    assert!(last > later);
    // A caller that goes away leaves the queue.
    let gone = waiting(0xa1);
    client.wait_until_queued("l/", "l0", 2).await;
    gone.abort();
    client.wait_until_queued("l/", "l0", 1).await;
    let unknown = v3lockpb::LockRequest { name: "l".into(), lease: 0xdead };
    said.push(format!("{:?}", client.lock.lock(unknown).await.map_err(|status| status.code()).err()));
    said
}

async fn elections(endpoint: &str) -> Vec<String> {
    let mut said = Vec::new();
    let mut client = Client::new(endpoint);
    let status = client.leader().await.unwrap_err();
    said.push(format!("{:?}: {}", status.code(), status.message()));
    for lease in [1, 2] {
        client.grant(lease).await;
    }
    let request = v3electionpb::LeaderRequest { name: "e".into() };
    let mut observed = client.election.observe(request).await.unwrap().into_inner();
    let first = client.campaign(1, "one").await;
    said.push(format!("{:?} {:?}", first.name, first.key));
    let second = {
        let mut client = client.clone();
        Env::os().spawn(async move { client.campaign(2, "two").await })
    };
    client.wait_until_queued("e/", "e0", 2).await;
    assert_eq!(client.leader().await.unwrap(), "one");
    let proclaim = |leader: &v3electionpb::LeaderKey, value: &str| v3electionpb::ProclaimRequest {
        leader: Some(leader.clone()),
        value: value.to_owned().into(),
    };
    client.election.proclaim(proclaim(&first, "one again")).await.unwrap();
    assert_eq!(client.leader().await.unwrap(), "one again");
    client.election.resign(v3electionpb::ResignRequest { leader: Some(first.clone()) }).await.unwrap();
    let second = in_time(second).await;
    assert!(second.rev > first.rev, "the next leader has a later revision");
    let status = client.election.proclaim(proclaim(&first, "not any more")).await.unwrap_err();
    said.push(format!("{:?}: {}", status.code(), status.message()));
    // Resigning twice is no error and takes nothing from the next leader.
    client.election.resign(v3electionpb::ResignRequest { leader: Some(first) }).await.unwrap();
    assert_eq!(client.leader().await.unwrap(), "two");
    client.election.proclaim(proclaim(&second, "the end")).await.unwrap();
    loop {
        let next = tokio::time::timeout(Duration::from_millis(TURN_MS_MAX), observed.message()).await;
        let kv = next.expect("said in time").unwrap().expect("the stream goes on").kv.unwrap();
        said.push(String::from_utf8(kv.value.to_vec()).unwrap());
        if kv.value == "the end" {
            break;
        }
    }
    let nobody = v3electionpb::ResignRequest { leader: None };
    let status = client.election.resign(nobody).await.unwrap_err();
    said.push(format!("{:?}: {}", status.code(), status.message()));
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_and_elections_go_from_owner_to_owner() {
    let cluster = Cluster::start(1).await;
    let endpoint = cluster.endpoints().remove(0);
    let (locks, elections) = (locks(&endpoint).await, elections(&endpoint).await);
    cluster.stop_all().await;
    assert_eq!(locks[..3], ["l/a1", "l/b2", "l/c3"]);
    assert_eq!(locks[3], "Some(NotFound)", "a lock on a lease that is not there");
    assert_eq!(elections[0], "Unknown: election: no leader");
    assert_eq!(elections[1], r#"b"e" b"e/1""#);
    assert!(elections[2].ends_with("election: not leader"), "{elections:?}");
    assert_eq!(elections[elections.len() - 2], "the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_waited_for_across_members_and_without_a_lease_of_ones_own() {
    let cluster = Cluster::start(3).await;
    let endpoints = cluster.endpoints();
    let (mut one, mut other) = (Client::new(&endpoints[0]), Client::new(&endpoints[1]));
    one.grant(5).await;
    let (key, fence) = one.lock(5).await;
    let waiting = {
        let mut other = other.clone();
        let request = v3lockpb::LockRequest { name: "l".into(), lease: 0 };
        Env::os().spawn(async move { other.lock.lock(request).await.unwrap().into_inner().key })
    };
    other.wait_until_queued("l/", "l0", 2).await;
    one.lock.unlock(v3lockpb::UnlockRequest { key: key.into() }).await.unwrap();
    let next = in_time(waiting).await;
    let next = String::from_utf8(next.to_vec()).unwrap();
    let kv = other.kv.range(get(&next)).await.unwrap().into_inner().kvs.pop().unwrap();
    assert!(kv.lease != 0 && kv.create_revision > fence);
    // A waiter whose lease ends is told so.
    one.grant(6).await;
    let waiting = {
        let mut one = one.clone();
        let request = v3lockpb::LockRequest { name: "l".into(), lease: 6 };
        Env::os().spawn(async move { one.lock.lock(request).await })
    };
    one.wait_until_queued("l/", "l0", 2).await;
    one.revoke(6).await;
    other.lock.unlock(v3lockpb::UnlockRequest { key: next.into() }).await.unwrap();
    assert_eq!(refused(in_time(waiting).await), ApiError::LockSessionExpired);
    cluster.stop_all().await;
}
