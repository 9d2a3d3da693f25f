//! Auth over gRPC: who calls, what it may do, and how that changes under running streams and clusters.

use std::time::Duration;

use keelstone_env::{channel, ChannelOptions, ClientTls, Env};
use keelstone_etcd_api::{
    authpb,
    pb::{
        self, auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
        maintenance_client::MaintenanceClient, watch_client::WatchClient, watch_request::RequestUnion,
    },
    ApiError,
};
use keelstone_store_server::StoreConfig;
use tokio::sync::mpsc;
use tonic::{transport::Channel, Request, Status, Streaming};

use crate::common::{get, put, Cluster};

/// Time that a watch has to say what it must say.
const WATCH_MS_MAX: u64 = 10_000;

/// A client of one member, with or without a token.
#[derive(Clone)]
pub struct User {
    channel: Channel,
    token: Option<String>,
}

impl User {
    pub fn nobody(endpoint: &str) -> Self {
        let options = ChannelOptions { keep_alive_interval: Duration::from_secs(60), ..ChannelOptions::default() };
        Self { channel: channel(&Env::os(), endpoint, options).unwrap(), token: None }
    }

    /// Without a token, but with a certificate.
    pub fn over_tls(endpoint: &str, tls: &ClientTls) -> Self {
        let tls = ClientTls { alpn: vec!["h2".into()], ..tls.clone() };
        let options = ChannelOptions {
            tls: Some(Env::os().tls().client(&tls).unwrap()),
            keep_alive_interval: Duration::from_secs(60),
            ..ChannelOptions::default()
        };
        Self { channel: channel(&Env::os(), endpoint, options).unwrap(), token: None }
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self { channel: self.channel.clone(), token: Some(token.to_owned()) }
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        request
    }

    pub fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    pub async fn token_of(&self, name: &str, password: &str) -> Result<String, Status> {
        let request = pb::AuthenticateRequest { name: name.into(), password: password.into() };
        Ok(self.auth().authenticate(self.request(request)).await?.into_inner().token)
    }

    pub async fn log_in(&self, name: &str, password: &str) -> Self {
        self.with_token(&self.token_of(name, password).await.unwrap())
    }

    pub async fn put(&self, key: &str) -> Result<(), Status> {
        KvClient::new(self.channel.clone()).put(self.request(put(key, "v"))).await.map(drop)
    }

    pub async fn get(&self, key: &str, serializable: bool) -> Result<i64, Status> {
        let request = pb::RangeRequest { serializable, ..get(key) };
        Ok(KvClient::new(self.channel.clone()).range(self.request(request)).await?.into_inner().count)
    }

    pub async fn user_add(&self, name: &str, password: &str) {
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = pb::AuthUserAddRequest { name, password, ..Default::default() };
        self.auth().user_add(self.request(request)).await.unwrap();
    }

    pub async fn grant(&self, role: &str, kind: authpb::permission::Type, key: &str, end: &str) {
        let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
        let perm = Some(authpb::Permission { perm_type: kind.into(), key, range_end });
        let request = pb::AuthRoleGrantPermissionRequest { name: role.into(), perm };
        self.auth().role_grant_permission(self.request(request)).await.unwrap();
    }

    async fn revoke(&self, role: &str, key: &str, end: &str) {
        let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
        let request = pb::AuthRoleRevokePermissionRequest { role: role.into(), key, range_end };
        self.auth().role_revoke_permission(self.request(request)).await.unwrap();
    }

    async fn watch(&self, key: &str, end: &str) -> Watching {
        let (requests, receiver) = mpsc::channel(4);
        let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
        let create = pb::WatchCreateRequest { key, range_end, ..Default::default() };
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(request).await.unwrap();
        let outgoing =
            futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        let answers = WatchClient::new(self.channel.clone()).watch(self.request(outgoing)).await.unwrap().into_inner();
        Watching { _requests: requests, answers }
    }
}

struct Watching {
    _requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Watching {
    async fn next(&mut self) -> pb::WatchResponse {
        let next = tokio::time::timeout(Duration::from_millis(WATCH_MS_MAX), self.answers.message());
        next.await.expect("an answer in time").unwrap().expect("the stream goes on")
    }
}

/// What went wrong.
#[track_caller]
pub fn refused<T>(answer: Result<T, Status>) -> ApiError {
    match answer {
        Ok(_) => panic!("it was done"),
        Err(status) => ApiError::from_status(&status).unwrap_or_else(|| panic!("{status:?}")),
    }
}

/// The token with one letter changed.
fn forge(token: &str) -> String {
    let (head, tail) = token.split_at(12);
    let letter = if tail.starts_with('A') { 'B' } else { 'A' };
    format!("{head}{letter}{}", &tail[1..])
}

pub fn quick(config: &mut StoreConfig) {
    config.bcrypt_cost = 4;
}

/// Enables auth: root (password `root`), and alice (password `alice`) who may do all in `[a, c)`.
pub async fn secure(endpoint: &str) -> User {
    let nobody = User::nobody(endpoint);
    secure_over(&nobody).await;
    nobody
}

pub async fn secure_over(nobody: &User) {
    nobody.user_add("root", "root").await;
    nobody.user_add("alice", "alice").await;
    nobody.auth().role_add(pb::AuthRoleAddRequest { name: "keeper".into() }).await.unwrap();
    nobody.grant("keeper", authpb::permission::Type::Readwrite, "a", "c").await;
    for (user, role) in [("root", "root"), ("alice", "keeper")] {
        let request = pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
        nobody.auth().user_grant_role(request).await.unwrap();
    }
    nobody.auth().auth_enable(pb::AuthEnableRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_taken_by_every_member_and_after_a_restart() {
    let mut cluster = Cluster::start_with(3, quick).await;
    let endpoints = cluster.endpoints();
    let nobody = secure(&endpoints[0]).await;
    let token = nobody.token_of("alice", "alice").await.unwrap();
    for endpoint in &endpoints {
        let alice = User::nobody(endpoint).with_token(&token);
        alice.put("a").await.unwrap();
        assert_eq!(alice.get("a", true).await.unwrap(), 1);
        assert_eq!(refused(alice.put("x").await), ApiError::PermissionDenied);
        assert_eq!(refused(User::nobody(endpoint).get("a", true).await), ApiError::UserEmpty);
        let forged = User::nobody(endpoint).with_token(&forge(&token));
        assert_eq!(refused(forged.get("a", false).await), ApiError::InvalidAuthToken);
    }
    cluster.stop(1).await;
    cluster.restart(1).await;
    cluster.wait_for_leader().await;
    let alice = User::nobody(&endpoints[1]).with_token(&token);
    alice.put("b").await.unwrap();
    assert_eq!(refused(alice.put("x").await), ApiError::PermissionDenied);
    let states: Vec<_> = cluster.running().map(|member| member.mvcc().auth().status()).collect();
    assert!(states.iter().all(|status| status.enabled), "{states:?}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_a_removed_user_and_a_disabled_auth_end_tokens() {
    let cluster = Cluster::start_with(1, quick).await;
    let nobody = secure(&cluster.endpoints()[0]).await;
    let (root, alice) = (nobody.log_in("root", "root").await, nobody.log_in("alice", "alice").await);
    assert_eq!(refused(nobody.token_of("alice", "wrong").await), ApiError::AuthFailed);
    let (name, password) = ("alice".to_owned(), "new".to_owned());
    let change = pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
    assert_eq!(
        refused(alice.auth().user_change_password(alice.request(change.clone())).await),
        ApiError::PermissionDenied
    );
    root.auth().user_change_password(root.request(change)).await.unwrap();
    assert_eq!(refused(alice.put("a").await), ApiError::InvalidAuthToken);
    assert_eq!(refused(nobody.token_of("alice", "alice").await), ApiError::AuthFailed);
    let alice = nobody.log_in("alice", "new").await;
    alice.put("a").await.unwrap();
    let delete = pb::AuthUserDeleteRequest { name: "alice".into() };
    root.auth().user_delete(root.request(delete)).await.unwrap();
    assert_eq!(refused(alice.put("a").await), ApiError::InvalidAuthToken);
    root.auth().auth_disable(root.request(pb::AuthDisableRequest {})).await.unwrap();
    nobody.put("x").await.unwrap();
    assert_eq!(refused(nobody.token_of("root", "root").await), ApiError::AuthNotEnabled);
    nobody.auth().auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    assert_eq!(refused(root.put("x").await), ApiError::InvalidAuthToken, "tokens of another time are no good");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simple_token_ends_when_it_is_not_used() {
    let short = |config: &mut StoreConfig| {
        quick(config);
        config.auth_token_ttl = Duration::from_secs(2);
    };
    let cluster = Cluster::start_with(1, short).await;
    let nobody = secure(&cluster.endpoints()[0]).await;
    let alice = nobody.log_in("alice", "alice").await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        alice.put("a").await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    assert_eq!(refused(alice.put("a").await), ApiError::InvalidAuthToken);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_is_for_readers_and_ends_when_its_user_is_none() {
    let cluster = Cluster::start_with(1, quick).await;
    let nobody = User::nobody(&cluster.endpoints()[0]);
    let mut early = nobody.watch("a", "").await;
    assert!(early.next().await.created);
    let nobody = secure(&cluster.endpoints()[0]).await;
    let (root, alice) = (nobody.log_in("root", "root").await, nobody.log_in("alice", "alice").await);
    let last = early.next().await;
    let reason = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";
    assert!(last.canceled && last.cancel_reason == reason, "begun before auth was on: {last:?}");

    let refusal = alice.watch("a", "d").await.next().await;
    let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert!(refusal.created && refusal.canceled && refusal.cancel_reason == denied, "{refusal:?}");
    let refusal = nobody.watch("a", "").await.next().await;
    assert!(refusal.canceled && refusal.cancel_reason == reason, "{refusal:?}");

    let (mut all, mut one) = (alice.watch("a", "c").await, alice.watch("b", "").await);
    assert!(all.next().await.created && one.next().await.created);
    alice.put("a").await.unwrap();
    assert_eq!(all.next().await.events.len(), 1);
    // A change that leaves the permission leaves the watch.
    root.grant("keeper", authpb::permission::Type::Read, "b", "").await;
    root.revoke("keeper", "a", "c").await;
    root.put("b").await.unwrap();
    let last = all.next().await;
    assert!(last.canceled && last.events.is_empty() && last.cancel_reason == denied, "{last:?}");
    assert_eq!(one.next().await.events.len(), 1);
    let delete = pb::AuthUserDeleteRequest { name: "alice".into() };
    root.auth().user_delete(root.request(delete)).await.unwrap();
    assert!(one.next().await.canceled, "nothing happens to its key, and yet it ends");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_and_maintenance_are_roots() {
    let cluster = Cluster::start_with(1, quick).await;
    let nobody = secure(&cluster.endpoints()[0]).await;
    let (root, alice) = (nobody.log_in("root", "root").await, nobody.log_in("alice", "alice").await);
    for (user, expected) in [(&nobody, ApiError::UserEmpty), (&alice, ApiError::PermissionDenied)] {
        let mut maintenance = MaintenanceClient::new(user.channel.clone());
        assert_eq!(refused(maintenance.status(user.request(pb::StatusRequest {})).await), expected);
        assert_eq!(refused(maintenance.hash(user.request(pb::HashRequest {})).await), expected);
        assert_eq!(refused(maintenance.hash_kv(user.request(pb::HashKvRequest { revision: 0 })).await), expected);
        assert_eq!(refused(maintenance.defragment(user.request(pb::DefragmentRequest {})).await), expected);
        let transfer = pb::MoveLeaderRequest { target_id: 1 };
        assert_eq!(refused(maintenance.move_leader(user.request(transfer)).await), expected);
        let alarm = pb::AlarmRequest { action: 1, member_id: 1, alarm: 1 };
        assert_eq!(refused(maintenance.alarm(user.request(alarm)).await), expected);
        let status = user.auth().auth_status(user.request(pb::AuthStatusRequest {})).await;
        assert_eq!(refused(status), expected);
    }
    let mut maintenance = MaintenanceClient::new(root.channel.clone());
    assert!(maintenance.status(root.request(pb::StatusRequest {})).await.is_ok());
    assert!(maintenance.hash_kv(root.request(pb::HashKvRequest { revision: 0 })).await.is_ok());
    let status = root.auth().auth_status(root.request(pb::AuthStatusRequest {})).await.unwrap().into_inner();
    assert!(status.enabled && status.auth_revision == 7, "{status:?}");
    let list = |user: &User| {
        let (mut client, request) =
            (ClusterClient::new(user.channel.clone()), user.request(pb::MemberListRequest::default()));
        async move { client.member_list(request).await }
    };
    assert!(list(&alice).await.is_ok());
    assert_eq!(refused(list(&nobody).await), ApiError::UserEmpty);
    let compact = pb::CompactionRequest { revision: 1, physical: false };
    let mut kv = KvClient::new(nobody.channel.clone());
    assert_eq!(refused(kv.compact(nobody.request(compact)).await), ApiError::UserEmpty);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_show_their_keys_and_live_on_for_who_may_use_them() {
    let cluster = Cluster::start_with(1, quick).await;
    let nobody = secure(&cluster.endpoints()[0]).await;
    let (root, alice) = (nobody.log_in("root", "root").await, nobody.log_in("alice", "alice").await);
    let mut lease = LeaseClient::new(nobody.channel.clone());
    let grant = pb::LeaseGrantRequest { id: 9, ttl: 600 };
    assert_eq!(refused(lease.lease_grant(nobody.request(grant)).await), ApiError::UserEmpty);
    lease.lease_grant(alice.request(grant)).await.unwrap();
    let keys = pb::LeaseTimeToLiveRequest { id: 9, keys: true };
    assert!(lease.lease_time_to_live(alice.request(keys)).await.is_ok());
    let mut kv = KvClient::new(root.channel.clone());
    kv.put(root.request(pb::PutRequest { lease: 9, ..put("x", "1") })).await.unwrap();
    assert_eq!(refused(lease.lease_time_to_live(alice.request(keys)).await), ApiError::PermissionDenied);
    assert_eq!(refused(lease.lease_leases(alice.request(pb::LeaseLeasesRequest {})).await), ApiError::PermissionDenied);
    let without = pb::LeaseTimeToLiveRequest { id: 9, keys: false };
    assert!(lease.lease_time_to_live(alice.request(without)).await.is_ok());
    let found = lease.lease_time_to_live(root.request(keys)).await.unwrap().into_inner();
    assert_eq!(found.keys, ["x"]);
    let once = || futures::stream::once(async { pb::LeaseKeepAliveRequest { id: 9 } });
    let mut kept = lease.lease_keep_alive(alice.request(once())).await.unwrap().into_inner();
    assert_eq!(refused(kept.message().await), ApiError::PermissionDenied);
    let mut kept = lease.lease_keep_alive(root.request(once())).await.unwrap().into_inner();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl, 600);
    cluster.stop_all().await;
}
