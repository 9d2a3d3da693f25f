//! Probes and metrics over plain HTTP, and TLS on both listeners.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use keelstone_env::{ClientTls, Env, ServerTls};
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions};
use keelstone_store_server::{PeerTls, StoreConfig};

use crate::common::{get, put, Cluster};

/// Status and body of a GET.
pub async fn fetch(address: &str, path: &str) -> (u16, String) {
    let (host, port) = address.rsplit_once(':').unwrap();
    let io = Env::os().net().connect(host, port.parse().unwrap()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    let driver = Env::os().spawn(connection);
    let request = http::Request::get(path).header("host", address).body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    driver.await.unwrap().unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_version_and_metrics() {
    let metrics = |config: &mut StoreConfig| config.listen_metrics = Some("127.0.0.1:0".into());
    let cluster = Cluster::start_with(1, metrics).await;
    let member = cluster.members[0].as_ref().unwrap();
    member.kv().put(put("a", "1")).await.unwrap();
    let address = member.client_address();
    assert_eq!(fetch(address, "/health").await, (200, r#"{"health":"true","reason":""}"#.to_owned()));
    assert_eq!(fetch(address, "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(fetch(address, "/readyz").await, (200, "ok\n".to_owned()));
    let verbose = fetch(address, "/readyz?verbose&exclude=non_learner").await.1;
    assert!(verbose.contains("[+]linearizable_read ok\n") && verbose.contains("[+]non_learner excluded: ok\n"));
    assert_eq!(fetch(address, "/readyz/serializable_read").await.0, 200);
    assert_eq!(fetch(address, "/readyz/nonsense").await.0, 404);
    assert_eq!(fetch(address, "/nonsense").await.0, 404);
    assert!(fetch(address, "/version").await.1.contains("\"etcdserver\":\"3."));
    let text = fetch(address, "/metrics").await.1;
    for line in ["etcd_server_has_leader 1", "etcd_server_is_leader 1", "etcd_server_leader_changes_seen_total 1"] {
        assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
    }
    assert!(text.contains("etcd_mvcc_db_total_size_in_bytes "));
    cluster.stop_all().await;
}

/// A certificate authority and one certificate for `127.0.0.1`, good for both sides.
struct Certificates {
    ca: String,
    certificate: String,
    key: String,
}

impl Certificates {
    fn make() -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = own.signed_by(&key, &issuer).unwrap();
        Self { ca: ca_certificate.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn server(&self) -> ServerTls {
        ServerTls {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_ca: Some(self.ca.clone()),
            client_certificate_required: true,
            alpn: Vec::new(),
        }
    }

    fn client(&self) -> ClientTls {
        let identity = Some((self.certificate.clone(), self.key.clone()));
        ClientTls { ca: self.ca.clone(), identity, alpn: Vec::new() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_over_tls_take_only_clients_with_a_certificate() {
    let certificates = Arc::new(Certificates::make());
    let secure = |config: &mut StoreConfig| {
        config.client_tls = Some(certificates.server());
        config.peer_tls = Some(PeerTls { server: certificates.server(), client: certificates.client() });
        for member in &mut config.initial_cluster {
            member.peer_url = member.peer_url.replace("http://", "https://");
        }
    };
    let cluster = Cluster::start_with(3, secure).await;
    let mut options = GrpcKvOptions::new(cluster.endpoints());
    options.tls = Some(certificates.client());
    let kv = GrpcKv::new(&Env::os(), options.clone()).unwrap();
    kv.put(put("a", "1")).await.unwrap();
    assert_eq!(kv.range(get("a")).await.unwrap().count, 1);

    options.tls = Some(ClientTls { identity: None, ..certificates.client() });
    options.request_timeout = std::time::Duration::from_millis(500);
    let stranger = GrpcKv::new(&Env::os(), options).unwrap();
    assert!(stranger.range(get("a")).await.is_err());
    cluster.stop_all().await;
}
