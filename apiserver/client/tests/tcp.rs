//! The transport over real sockets: reuse, failover, and what is repeated and what is not.

mod fake;

use std::{
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        Arc,
    },
    time::Duration,
};

use bytes::Bytes;
use fake::{FakeApi, Fault};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use k8s_openapi::api::core::v1::ConfigMap;
use keelstone_client::{Body, Client, Informer, InformerOptions, ListOptions, TcpOptions, Transport};
use keelstone_env::{ClientTls, Env, ServerTls, TlsAcceptor};
use serde_json::json;
use tokio::time::{sleep, timeout, Instant};

/// A master that serves a fake API on a free port.
struct Master {
    address: String,
    connections: Arc<AtomicUsize>,
    http2: Arc<AtomicBool>,
    /// Requests are read, but never answered.
    frozen: Arc<AtomicBool>,
    /// Everything is answered with 503.
    unready: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Master {
    async fn start(api: &FakeApi, tls: Option<Arc<dyn TlsAcceptor>>) -> Self {
        let listener = Env::os().net().bind("127.0.0.1:0").await.unwrap();
        let (connections, http2) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (frozen, unready) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let address = listener.address();
        let (api, seen, flags) = (api.clone(), connections.clone(), (frozen.clone(), unready.clone(), http2.clone()));
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let (io, _) = listener.accept().await.unwrap();
                seen.fetch_add(1, Ordering::Relaxed);
                let (api, flags, tls) = (api.clone(), flags.clone(), tls.clone());
                serving.spawn(async move {
                    let io = match tls {
                        None => io,
                        Some(tls) => match tls.accept(io).await {
                            Ok(session) => session.io,
                            Err(_) => return,
                        },
                    };
                    let service = service_fn(move |request| answer(api.clone(), flags.clone(), request));
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await;
                });
            }
        });
        Self { address, connections, http2, frozen, unready, task }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

type Flags = (Arc<AtomicBool>, Arc<AtomicBool>, Arc<AtomicBool>);

async fn answer(
    api: FakeApi,
    (frozen, unready, http2): Flags,
    request: Request<Incoming>,
) -> Result<Response<Body>, String> {
    http2.store(request.version() == http::Version::HTTP_2, Ordering::Relaxed);
    if frozen.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    if unready.load(Ordering::Relaxed) || request.uri().path() == "/readyz" {
        let body = http_body_util::Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        let code = if unready.load(Ordering::Relaxed) { 503 } else { 200 };
        return Ok(Response::builder().status(code).body(body).unwrap());
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
    api.send(Request::from_parts(parts, body)).await.map_err(|e| e.to_string())
}

fn client(masters: &[&Master], change: impl FnOnce(&mut TcpOptions)) -> Client {
    let mut options = TcpOptions::new(masters.iter().map(|m| m.address.clone()).collect());
    options.read_attempt_timeout = Duration::from_millis(300);
    change(&mut options);
    Client::tcp(&Env::os(), options).unwrap()
}

fn config(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}})).unwrap()
}

#[tokio::test]
async fn connections_are_reused_with_both_protocols() {
    for http2 in [false, true] {
        let api = FakeApi::new();
        let master = Master::start(&api, None).await;
        let client = client(&[&master], |o| o.http2_plain = http2);
        for i in 0..5 {
            client.resource().create(&config(&format!("c{i}"))).await.unwrap();
        }
        let all = client.resource::<ConfigMap>().list(&ListOptions::default()).await.unwrap();
        assert_eq!(all.items.len(), 5);
        assert_eq!(master.connections(), 1);
        let maps = client.namespaced::<ConfigMap>("n");
        let both = futures::future::join_all((0..8).map(|_| maps.get("c1"))).await;
        assert!(both.iter().all(Result::is_ok));
        assert_eq!(master.connections() == 1, http2);
        assert_eq!(master.http2.load(Ordering::Relaxed), http2);
    }
}

#[tokio::test]
async fn a_dead_master_is_left_also_by_writes_that_were_not_sent() {
    let api = FakeApi::new();
    let (one, two) = (Master::start(&api, None).await, Master::start(&api, None).await);
    let client = client(&[&one, &two], |_| {});
    client.resource().create(&config("a")).await.unwrap();
    assert_eq!((one.connections(), two.connections()), (1, 0));
    one.task.abort();
    sleep(Duration::from_millis(50)).await;
    client.resource().create(&config("b")).await.unwrap();
    client.namespaced::<ConfigMap>("n").get("b").await.unwrap();
    assert_eq!(two.connections(), 1);
}

#[tokio::test]
async fn a_broken_write_is_not_repeated_but_a_read_is() {
    let api = FakeApi::new();
    let (one, two) = (Master::start(&api, None).await, Master::start(&api, None).await);
    let client = client(&[&one, &two], |_| {});
    // The fake breaks the connection after it has acted.
    api.fail_next(Method::POST, Fault::LoseAnswer);
    let error = client.resource().create(&config("a")).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    assert_eq!(api.writes().len(), 1);
    api.fail_next(Method::GET, Fault::LoseAnswer);
    client.namespaced::<ConfigMap>("n").get("a").await.unwrap();
}

#[tokio::test]
async fn frozen_and_unready_masters_are_left_by_reads() {
    let api = FakeApi::new();
    let (one, two) = (Master::start(&api, None).await, Master::start(&api, None).await);
    let client = client(&[&one, &two], |_| {});
    client.resource().create(&config("a")).await.unwrap();
    one.frozen.store(true, Ordering::Relaxed);
    let began = Instant::now();
    client.namespaced::<ConfigMap>("n").get("a").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3));
    one.frozen.store(false, Ordering::Relaxed);
    two.unready.store(true, Ordering::Relaxed);
    client.namespaced::<ConfigMap>("n").get("a").await.unwrap();
    one.unready.store(true, Ordering::Relaxed);
    assert_eq!(client.namespaced::<ConfigMap>("n").get("a").await.unwrap_err().code(), 503);
}

#[tokio::test]
async fn a_watch_leaves_a_master_that_is_no_longer_ready() {
    let (old, new) = (FakeApi::new(), FakeApi::new());
    let (one, two) = (Master::start(&old, None).await, Master::start(&new, None).await);
    let client = client(&[&one, &two], |_| {});
    let informer = Informer::spawn(client.resource::<ConfigMap>(), InformerOptions::default());
    informer.wait_synced().await;
    sleep(Duration::from_millis(100)).await;
    // From now on the first master's watch is silent, and its probe says why.
    one.unready.store(true, Ordering::Relaxed);
    new.put("configmaps", json!({"metadata": {"name": "a", "namespace": "n"}}));
    informer.store().wait_for("101", Duration::from_secs(15)).await.unwrap();
    assert_eq!(informer.store().keys(), ["n/a"]);
}

#[tokio::test]
async fn tls_negotiates_http2_and_checks_the_server() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    let tls = ServerTls {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        alpn: vec!["h2".into(), "http/1.1".into()],
        ..ServerTls::default()
    };
    let api = FakeApi::new();
    let master = Master::start(&api, Some(Env::os().tls().server(&tls).unwrap())).await;
    let trusting = ClientTls { ca: certificate.pem(), ..ClientTls::default() };
    let client = client(&[&master], |o| *o = o.clone().tls(trusting).token("secret"));
    client.resource().create(&config("a")).await.unwrap();
    assert!(master.http2.load(Ordering::Relaxed));

    let other = rcgen::KeyPair::generate().unwrap();
    let stranger = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&other).unwrap();
    let wary = self::client(&[&master], |o| {
        *o = o.clone().tls(ClientTls { ca: stranger.pem(), ..ClientTls::default() });
    });
    let refused = timeout(Duration::from_secs(5), wary.resource().create(&config("b"))).await.unwrap().unwrap_err();
    assert!(!refused.is_outcome_unknown(), "{refused:?}");
    assert!(api.get("configmaps", "n", "b").is_none());
}
