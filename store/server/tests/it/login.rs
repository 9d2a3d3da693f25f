//! This project's client as a user: it gets tokens, renews them, and repeats only what was refused for its token.

use std::time::Duration;

use futures::StreamExt;
use keelstone_env::Env;
use keelstone_etcd_api::{pb, ApiError};
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions, KvError, User as Login};
use keelstone_store_server::StoreConfig;
use tempfile::TempDir;

use crate::{
    auth::{quick, secure, User},
    common::{get, put, Cluster},
    etcd::Etcd,
};

fn kv(endpoints: &[String], name: &str, password: &str) -> GrpcKv {
    let mut options = GrpcKvOptions::new(endpoints.to_vec());
    options.user = Some(Login { name: name.into(), password: password.into() });
    GrpcKv::new(&Env::os(), options).unwrap()
}

fn api<T: std::fmt::Debug>(answer: Result<T, KvError>) -> ApiError {
    match answer {
        Err(KvError::Api(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// What holds on an etcd and here alike.
async fn a_user_calls(endpoints: &[String]) {
    let nobody = secure(&endpoints[0]).await;
    let alice = kv(endpoints, "alice", "alice");
    alice.put(put("a", "1")).await.unwrap();
    assert_eq!(alice.range(get("a")).await.unwrap().count, 1);
    assert_eq!(api(alice.put(put("x", "1")).await), ApiError::PermissionDenied);
    assert_eq!(api(kv(endpoints, "alice", "wrong").range(get("a")).await), ApiError::AuthFailed);
    let create = |key: &str| pb::WatchCreateRequest { key: key.to_owned().into(), ..Default::default() };
    let mut watch = alice.watch(create("a")).await.unwrap();
    assert!(watch.next().await.unwrap().unwrap().created);
    alice.put(put("a", "2")).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 1);

    // Without auth there are no tokens; those of before are no good afterwards.
    let root = nobody.log_in("root", "root").await;
    root.auth().auth_disable(root.request(pb::AuthDisableRequest {})).await.unwrap();
    alice.put(put("a", "3")).await.unwrap();
    let fresh = kv(endpoints, "alice", "alice");
    fresh.put(put("a", "4")).await.unwrap();
    nobody.auth().auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    alice.put(put("a", "5")).await.unwrap();
    fresh.put(put("a", "6")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_calls_three_members_and_an_etcd() {
    let cluster = Cluster::start_with(3, quick).await;
    a_user_calls(&cluster.endpoints()).await;
    cluster.stop_all().await;
    if let Some(real) = Etcd::start(1).await {
        a_user_calls(&real.endpoints).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_has_ended_is_renewed() {
    let short = |config: &mut StoreConfig| {
        quick(config);
        config.auth_token_ttl = Duration::from_secs(1);
    };
    let cluster = Cluster::start_with(1, short).await;
    let endpoints = cluster.endpoints();
    secure(&endpoints[0]).await;
    let alice = kv(&endpoints, "alice", "alice");
    alice.put(put("a", "1")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    alice.put(put("a", "2")).await.unwrap();
    assert_eq!(alice.range(get("a")).await.unwrap().kvs[0].version, 2, "each was done once");
    assert_eq!(
        api(alice.watch(pb::WatchCreateRequest { key: "x".into(), ..Default::default() }).await.map(drop)),
        ApiError::PermissionDenied
    );
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_web_tokens_are_of_one_auth_revision() {
    let dir = TempDir::new().unwrap();
    let secret = dir.path().join("secret");
    Env::os().disk().write_atomically(&secret, b"a secret that all members share").unwrap();
    let signed = |config: &mut StoreConfig| {
        quick(config);
        config.auth_token = format!("jwt,sign-method=HS256,priv-key={},ttl=5m", secret.display());
    };
    let cluster = Cluster::start_with(3, signed).await;
    let endpoints = cluster.endpoints();
    let nobody = secure(&endpoints[0]).await;
    let (root, token) = (nobody.log_in("root", "root").await, nobody.token_of("alice", "alice").await.unwrap());
    let alice = kv(&endpoints, "alice", "alice");
    alice.put(put("a", "1")).await.unwrap();
    root.auth().role_add(root.request(pb::AuthRoleAddRequest { name: "other".into() })).await.unwrap();
    let old = User::nobody(&endpoints[0]).with_token(&token);
    let about = old.auth().user_get(old.request(pb::AuthUserGetRequest { name: "alice".into() })).await.unwrap();
    assert_eq!(about.into_inner().roles, ["keeper"], "about oneself, as in etcd");
    for endpoint in &endpoints {
        let old = User::nobody(endpoint).with_token(&token);
        assert_eq!(crate::auth::refused(old.put("a").await), ApiError::AuthOldRevision);
    }
    alice.put(put("a", "2")).await.unwrap();
    assert_eq!(alice.range(get("a")).await.unwrap().kvs[0].version, 2);
    cluster.stop_all().await;
}
