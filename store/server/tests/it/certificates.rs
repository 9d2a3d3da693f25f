//! Certificates: as users, refused when they are wrong, replaced while the store runs.

use std::{path::Path, sync::Arc, time::Duration};

use keelstone_env::{ClientTls, Env, ServerTls, TlsFiles, TLS_FILES_INTERVAL};
use keelstone_etcd_api::ApiError;
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions, KvError};
use keelstone_store_server::{PeerTls, StoreConfig};
use tempfile::TempDir;

use crate::{
    auth::{quick, secure_over, User},
    common::{get, put, Cluster},
    web::post_over_tls,
};

/// An authority.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// Certificate and key for a name, good for both sides on `127.0.0.1`.
    pub fn issue(&self, common_name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    pub fn server(&self, common_name: &str) -> ServerTls {
        let (certificate, key) = self.issue(common_name);
        let client_ca = Some(self.pem.clone());
        ServerTls { certificate, key, client_ca, client_certificate_required: true, alpn: Vec::new() }
    }

    pub fn client(&self, common_name: &str) -> ClientTls {
        ClientTls { ca: self.pem.clone(), identity: Some(self.issue(common_name)), alpn: Vec::new() }
    }
}

fn kv(endpoints: Vec<String>, tls: ClientTls) -> GrpcKv {
    let mut options = GrpcKvOptions::new(endpoints);
    options.tls = Some(tls);
    options.request_timeout = Duration::from_millis(2_000);
    GrpcKv::new(&Env::os(), options).unwrap()
}

fn api<T: std::fmt::Debug>(answer: Result<T, KvError>) -> ApiError {
    match answer {
        Err(KvError::Api(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_names_its_user() {
    let authority = Authority::new();
    let secure = |config: &mut StoreConfig| {
        quick(config);
        config.client_tls = Some(authority.server("server"));
    };
    let cluster = Cluster::start_with(1, secure).await;
    let endpoints = cluster.endpoints();
    let inside = cluster.members[0].as_ref().unwrap();
    secure_over(&User::over_tls(&endpoints[0], &authority.client("whoever"))).await;
    let alice = kv(endpoints.clone(), authority.client("alice"));
    alice.put(put("a", "1")).await.unwrap();
    assert_eq!(api(alice.put(put("x", "1")).await), ApiError::PermissionDenied);
    assert_eq!(
        api(kv(endpoints.clone(), authority.client("mallory")).range(get("a")).await),
        ApiError::PermissionDenied
    );
    let root = kv(endpoints.clone(), authority.client("root"));
    assert!(root.status().await.is_ok());
    // Through the gateway it names nobody.
    let range = ("/v3/kv/range", r#"{"key":"YQ=="}"#);
    let answer = post_over_tls(&endpoints[0], &authority.client("root"), range.0, range.1).await;
    assert_eq!((answer.status, &answer.json()[0]["message"]), (400, &ApiError::UserEmpty.text().into()));
    inside.kv().put(put("x", "the process itself may do all")).await.unwrap();

    let stranger = Authority::new();
    let foreign = ClientTls { ca: authority.pem.clone(), ..stranger.client("root") };
    assert!(matches!(
        kv(endpoints.clone(), foreign).range(get("a")).await,
        Err(KvError::Unreachable(_) | KvError::Unknown(_))
    ));
    let bare = ClientTls { identity: None, ..authority.client("root") };
    assert!(matches!(kv(endpoints, bare).range(get("a")).await, Err(KvError::Unreachable(_) | KvError::Unknown(_))));
    cluster.stop_all().await;
}

struct Files {
    dir: TempDir,
}

impl Files {
    fn write(&self, name: &str, text: &str) {
        Env::os().disk().write_atomically(&self.dir.path().join(name), text.as_bytes()).unwrap();
    }

    fn renew(&self, authority: &Authority, trusted: &str) {
        let (certificate, key) = authority.issue("server");
        self.write("tls.crt", &certificate);
        self.write("tls.key", &key);
        self.write("ca.crt", trusted);
    }

    fn names(&self) -> TlsFiles {
        let path = |name: &str| Some(Path::join(self.dir.path(), name));
        TlsFiles { certificate: path("tls.crt"), key: path("tls.key"), ca: path("ca.crt") }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_authorities_are_replaced_while_three_members_run() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Arc::new(Files { dir: TempDir::new().unwrap() });
    files.renew(&old, &old.pem);
    let secure = |config: &mut StoreConfig| {
        config.client_tls = Some(old.server("server"));
        config.client_tls_files = Some(files.names());
        config.peer_tls = Some(PeerTls { server: old.server("server"), client: old.client("server") });
        config.peer_tls_files = Some(files.names());
        for member in &mut config.initial_cluster {
            member.peer_url = member.peer_url.replace("http://", "https://");
        }
    };
    let mut cluster = Cluster::start_with(3, secure).await;
    let endpoints = cluster.endpoints();
    let running = kv(endpoints.clone(), old.client("one"));
    running.put(put("a", "1")).await.unwrap();
    assert!(kv(endpoints.clone(), new.client("two")).range(get("a")).await.is_err(), "not trusted yet");

    // First both are trusted, then the certificates change, then the old authority goes.
    let both = format!("{}{}", old.pem, new.pem);
    files.renew(&old, &both);
    tokio::time::sleep(TLS_FILES_INTERVAL + Duration::from_millis(100)).await;
    let theirs = ClientTls { ca: both.clone(), ..new.client("two") };
    kv(endpoints.clone(), theirs.clone()).range(get("a")).await.unwrap();
    files.renew(&new, &both);
    tokio::time::sleep(TLS_FILES_INTERVAL + Duration::from_millis(100)).await;
    kv(endpoints.clone(), new.client("two")).range(get("a")).await.unwrap();
    running.put(put("a", "2")).await.expect("a connection that exists goes on");
    // Half of a pair is no certificate: what was there stays in use.
    files.write("tls.key", &old.issue("server").1);
    tokio::time::sleep(TLS_FILES_INTERVAL + Duration::from_millis(100)).await;
    kv(endpoints.clone(), new.client("two")).range(get("a")).await.unwrap();
    files.renew(&new, &new.pem);
    tokio::time::sleep(TLS_FILES_INTERVAL + Duration::from_millis(100)).await;
    kv(endpoints.clone(), new.client("two")).put(put("a", "3")).await.unwrap();
    let left_behind = ClientTls { ca: both, ..old.client("one") };
    assert!(kv(endpoints.clone(), left_behind).range(get("a")).await.is_err(), "no longer trusted");

    // A member that starts again meets the others with the new ones alone.
    cluster.stop(2).await;
    cluster.restart(2).await;
    cluster.wait_for_leader().await;
    let third = kv(vec![endpoints[2].clone()], new.client("two"));
    assert_eq!(third.range(get("a")).await.unwrap().kvs[0].value, "3");
    cluster.stop_all().await;
}
