//! One conformance suite for direct and cached storage, on the test double and on a real etcd.

mod suite;

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use keelstone_env::Env;
use keelstone_etcd_api::pb;
use keelstone_machinery::gvk::GroupResource;
use keelstone_storage::{testing::MemoryKv, Cacher, EtcdStorage, Storage, StorageConfig, StoreAccess};
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions};

fn pods() -> StorageConfig {
    StorageConfig::new(GroupResource { group: String::new(), resource: "pods".into() })
}

fn direct(kv: Arc<dyn EtcdKv>) -> Arc<dyn Storage> {
    Arc::new(EtcdStorage::new(StoreAccess::new(Env::os(), kv), pods()))
}

/// The cacher must outlive the storage, or its feed stops.
async fn cached(kv: Arc<dyn EtcdKv>) -> (Arc<Cacher>, Arc<dyn Storage>) {
    let cacher = Cacher::start(Env::os(), kv);
    let storage = cacher.storage(pods());
    while !cacher.unfilled().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (cacher, storage)
}

#[tokio::test]
async fn direct_on_the_test_double() {
    let kv = MemoryKv::new();
    suite::all(direct(kv.clone()), kv).await;
}

#[tokio::test]
async fn cached_on_the_test_double() {
    let kv = MemoryKv::new();
    let (_cacher, storage) = cached(kv.clone()).await;
    suite::all(storage, kv).await;
}

/// A real etcd, stopped when dropped.
struct Etcd {
    process: Child,
    _data: tempfile::TempDir,
    kv: Arc<dyn EtcdKv>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[allow(clippy::disallowed_methods)]
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// `None` where etcd is not installed.
#[allow(clippy::disallowed_methods)]
async fn etcd() -> Option<Etcd> {
    let data = tempfile::tempdir().unwrap();
    let (client, peer) = (free_port(), free_port());
    let (client_url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let process = Command::new("etcd")
        .arg("--data-dir")
        .arg(data.path())
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &format!("default={peer_url}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let options = GrpcKvOptions::new(vec![format!("127.0.0.1:{client}")]);
    let etcd = Etcd { process, _data: data, kv: Arc::new(GrpcKv::new(&Env::os(), options).unwrap()) };
    for _ in 0..100 {
        if etcd.kv.range(pb::RangeRequest { key: "x".into(), ..Default::default() }).await.is_ok() {
            return Some(etcd);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("etcd did not start");
}

#[tokio::test]
async fn direct_on_a_real_etcd() {
    let Some(etcd) = etcd().await else { return };
    suite::all(direct(etcd.kv.clone()), etcd.kv.clone()).await;
}

#[tokio::test]
async fn cached_on_a_real_etcd() {
    let Some(etcd) = etcd().await else { return };
    let (_cacher, storage) = cached(etcd.kv.clone()).await;
    suite::all(storage, etcd.kv.clone()).await;
}
