//! Over the network: TLS, HTTP/1.1 and HTTP/2, certificates and tokens, logs fetched from a node's agent.

mod support;

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelstone_apiserver::{ApiServer, ApiServerConfig, RunningApiServer};
use keelstone_env::{ClientTls, Env, ServerTls};
use keelstone_storage::testing::MemoryKv;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use support::TOKEN_KEY;

const READY_POLL: Duration = Duration::from_millis(20);

/// An authority and what it signs.
struct Pki {
    issuer: Issuer<'static, KeyPair>,
    ca: String,
}

impl Pki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), ca }
    }

    fn sign(&self, common_name: &str, organization: &str) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::from([127, 0, 0, 1]))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn server(&self, required: bool) -> ServerTls {
        let (certificate, key) = self.sign("server", "x");
        ServerTls {
            certificate,
            key,
            client_ca: Some(self.ca.clone()),
            client_certificate_required: required,
            alpn: vec!["h2".into(), "http/1.1".into()],
        }
    }

    fn client(&self, identity: Option<(&str, &str)>, alpn: &str) -> ClientTls {
        ClientTls {
            ca: self.ca.clone(),
            identity: identity.map(|(name, organization)| self.sign(name, organization)),
            alpn: vec![alpn.into()],
        }
    }
}

async fn start(env: &Env, pki: &Pki) -> RunningApiServer {
    let mut config = ApiServerConfig::new("m1", TOKEN_KEY);
    config.listen = Some("127.0.0.1:0".into());
    config.tls = Some(pki.server(false));
    config.static_tokens = "secret,alice,1,\"dev\"\n".into();
    config.node_client = Some(pki.client(Some(("kube-apiserver", "system:masters")), "http/1.1"));
    let running = ApiServer::start(env.clone(), config, MemoryKv::new()).await.unwrap();
    while !running.is_ready().await {
        tokio::time::sleep(READY_POLL).await;
    }
    running
}

/// Sends one request over a connection of its own.
async fn send(env: &Env, address: &str, tls: &ClientTls, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let (host, port) = address.rsplit_once(':').unwrap();
    let io = env.net().connect(host, port.parse().unwrap()).await.unwrap();
    let stream = env.tls().client(tls).unwrap().connect(io, host).await.unwrap();
    if stream.alpn.as_deref() == Some("h2") {
        let io = TokioIo::new(stream.io);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        env.spawn(connection);
        return sender.send_request(request).await.unwrap();
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream.io)).await.unwrap();
    env.spawn(connection);
    sender.send_request(request).await.unwrap()
}

async fn text(response: Response<Incoming>) -> (u16, String) {
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

fn get(address: &str, path: &str) -> http::request::Builder {
    Request::get(format!("https://{address}{path}")).header("host", address)
}

#[tokio::test]
async fn callers_are_who_they_prove_to_be() {
    let (env, pki) = (Env::os(), Pki::new());
    let running = start(&env, &pki).await;
    let address = running.address().unwrap().to_owned();
    let pods = "/api/v1/namespaces/default/pods";
    for alpn in ["h2", "http/1.1"] {
        let admin = pki.client(Some(("root", "system:masters")), alpn);
        let nobody = pki.client(None, alpn);
        let request = || get(&address, pods);
        let (code, _) = text(send(&env, &address, &admin, request().body(Full::default()).unwrap()).await).await;
        assert_eq!(code, 200, "{alpn}");
        let bearer = request().header("authorization", "Bearer secret").body(Full::default()).unwrap();
        let (code, status) = text(send(&env, &address, &nobody, bearer).await).await;
        assert_eq!(code, 403);
        assert!(status.contains("User \\\"alice\\\" cannot list"), "{status}");
        let wrong = request().header("authorization", "Bearer wrong").body(Full::default()).unwrap();
        let (code, status) = text(send(&env, &address, &nobody, wrong).await).await;
        assert_eq!(code, 401);
        assert!(status.contains("\"reason\":\"Unauthorized\""), "{status}");
        let (code, status) = text(send(&env, &address, &nobody, request().body(Full::default()).unwrap()).await).await;
        assert_eq!(code, 403);
        assert!(status.contains("system:anonymous"), "{status}");
        let healthy = get(&address, "/healthz").body(Full::default()).unwrap();
        assert_eq!(text(send(&env, &address, &nobody, healthy).await).await, (200, "ok".into()));
    }
    // A certificate of another authority is no certificate.
    let stranger = Pki::new();
    let mut tls = stranger.client(Some(("root", "system:masters")), "http/1.1");
    tls.ca = pki.ca.clone();
    let io = env.net().connect("127.0.0.1", address.rsplit_once(':').unwrap().1.parse().unwrap()).await.unwrap();
    let refused = match env.tls().client(&tls).unwrap().connect(io, "127.0.0.1").await {
        Err(_) => true,
        Ok(stream) => {
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream.io)).await;
            let (mut sender, connection) = handshake.unwrap();
            env.spawn(connection);
            sender.send_request(get(&address, pods).body(Full::<Bytes>::default()).unwrap()).await.is_err()
        }
    };
    assert!(refused);
    running.shutdown().await;
}

#[tokio::test]
async fn a_watch_streams_and_ends_with_the_server() {
    let (env, pki) = (Env::os(), Pki::new());
    let running = start(&env, &pki).await;
    let address = running.address().unwrap().to_owned();
    let admin = pki.client(Some(("root", "system:masters")), "h2");
    let watch = get(&address, "/api/v1/namespaces?watch=1").body(Full::default()).unwrap();
    let mut watch = send(&env, &address, &admin, watch).await.into_body();
    let first = watch.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"{\"type\":\"ADDED\""));
    running.shutdown().await;
    // What is left of the stream ends.
    while let Some(Ok(_)) = watch.frame().await {}
}

/// A node's agent that answers every log with the path that it was asked for.
async fn agent(env: &Env, pki: &Pki) -> u16 {
    let listener = env.net().bind("127.0.0.1:0").await.unwrap();
    let tls = env.tls().server(&pki.server(true)).unwrap();
    let port = listener.port();
    let env_of_task = env.clone();
    env.spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let tls = Arc::clone(&tls);
            env_of_task.spawn(async move {
                let stream = tls.accept(io).await.unwrap();
                assert_eq!(stream.peer.unwrap().common_name, "kube-apiserver");
                let service = service_fn(|request: Request<Incoming>| async move {
                    let path = request.uri().to_string();
                    let missing = path.contains("previous=true");
                    let code = if missing { 404 } else { 200 };
                    let body = if missing { "no previous container".to_owned() } else { format!("log of {path}\n") };
                    Ok::<_, std::convert::Infallible>(
                        Response::builder().status(code).body(Full::new(Bytes::from(body))).unwrap(),
                    )
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream.io), service).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn logs_come_from_the_nodes_agent() {
    let (env, pki) = (Env::os(), Pki::new());
    let running = start(&env, &pki).await;
    let address = running.address().unwrap().to_owned();
    let admin = pki.client(Some(("root", "system:masters")), "http/1.1");
    let port = agent(&env, &pki).await;
    let node = serde_json::json!({
        "metadata": {"name": "w1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        },
    });
    let pod = serde_json::json!({
        "metadata": {"name": "p"}, "spec": {"nodeName": "w1", "containers": [{"name": "c", "image": "i"}]},
    });
    let account = serde_json::json!({"metadata": {"name": "default"}});
    let inside = "/api/v1/namespaces/default";
    for (path, object) in [
        ("/api/v1/nodes".to_owned(), node),
        (format!("{inside}/serviceaccounts"), account),
        (format!("{inside}/pods"), pod),
    ] {
        let body = Full::new(Bytes::from(object.to_string()));
        let request = Request::post(&path).header("host", &address).body(body).unwrap();
        let (code, answer) = text(send(&env, &address, &admin, request).await).await;
        assert_eq!(code, 201, "{path}: {answer}");
    }
    let log = |query: &str| get(&address, &format!("{inside}/pods/p/log{query}")).body(Full::default()).unwrap();
    let (code, answer) = text(send(&env, &address, &admin, log("?tailLines=3&follow=true")).await).await;
    assert_eq!((code, answer.as_str()), (200, "log of /containerLogs/default/p/c?follow=true&tailLines=3\n"));
    let (code, answer) = text(send(&env, &address, &admin, log("?previous=true")).await).await;
    assert_eq!(code, 404);
    assert!(answer.contains("no previous container"), "{answer}");
    running.shutdown().await;
}
