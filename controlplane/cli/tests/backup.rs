//! The commands of docs/operating.md on backups, by the binary, on real processes and RocksDB.

// Tests start processes and touch files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use common::{free_address, ok, run, Running, TIME_MAX};
use keelstone_env::Env;
use keelstone_etcd_api::pb;
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions};
use tempfile::TempDir;

struct Place {
    data: PathBuf,
    client: String,
    peer: String,
    cluster: String,
}

impl Place {
    fn new(dir: &Path, name: &str) -> Self {
        let peer = format!("http://{}", free_address());
        let cluster = format!("default={peer}");
        Self { data: dir.join(name), client: free_address(), peer, cluster }
    }

    fn data(&self) -> &str {
        self.data.to_str().unwrap()
    }

    async fn start(&self, more: &[&str]) -> (Running, GrpcKv) {
        let arguments = ["store", "--data-dir", self.data(), "--initial-cluster", &self.cluster];
        let client = format!("http://{}", self.client);
        let clients = ["--listen-client-urls", &client, "--advertise-client-urls", &client];
        let peers = ["--listen-peer-urls", &self.peer, "--initial-advertise-peer-urls", &self.peer];
        let running = Running::start(&[&arguments[..], &clients[..], &peers[..], more].concat());
        let kv = GrpcKv::new(&Env::os(), GrpcKvOptions::new(vec![self.client.clone()])).unwrap();
        let ready = async {
            while !matches!(kv.status().await, Ok(status) if status.leader != 0) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(TIME_MAX, ready).await.expect("the store starts");
        (running, kv)
    }
}

async fn put(kv: &GrpcKv, value: String) -> i64 {
    let request = pb::PutRequest { key: b"a"[..].into(), value: value.into(), ..Default::default() };
    kv.put(request).await.unwrap().header.unwrap().revision
}

async fn get(kv: &GrpcKv) -> (i64, Vec<u8>) {
    let answer = kv.range(pb::RangeRequest { key: b"a"[..].into(), ..Default::default() }).await.unwrap();
    (answer.header.unwrap().revision, answer.kvs[0].value.to_vec())
}

/// Waits until the backup in `dir` holds `revision`.
async fn until_backed_up(dir: &str, revision: i64) {
    let reached = async {
        while !String::from_utf8_lossy(&run(&["store", "backup", "--dir", dir, "--status"]).stdout)
            .contains(&format!("complete up to revision {revision}, 0 revisions behind"))
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(TIME_MAX, reached).await.expect("the backup follows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_made_checked_and_restored() {
    use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (snapshot, own, remote, exported) = (path("snapshot.db"), path("own"), path("remote"), path("exported.db"));
    let place = Place::new(dir.path(), "data");
    let (store, kv) = place.start(&["--backup-dir", &own]).await;
    for i in 0..20 {
        put(&kv, format!("before {i}")).await;
    }

    // A snapshot.
    let saved = ok(&["store", "snapshot", "save", &snapshot, "--endpoints", &place.client]);
    assert!(saved.starts_with("snapshot of revision 21 saved"), "{saved}");
    assert!(ok(&["store", "snapshot", "status", &snapshot]).contains(", 21, "));

    // A backup from another machine, which is killed and goes on.
    let backup = ["store", "backup", "--dir", &remote, "--endpoints", &place.client];
    let backing_up = Running::start(&backup);
    until_backed_up(&remote, 21).await;
    let middle = put(&kv, "middle".into()).await;
    until_backed_up(&remote, middle).await;
    backing_up.signal(SIGKILL);
    let last = put(&kv, "last".into()).await;
    let backing_up = Running::start(&backup);
    until_backed_up(&remote, last).await;
    until_backed_up(&own, last).await;
    backing_up.signal(SIGTERM);
    store.signal(SIGTERM);

    // Everything is whole, and an export is as good as a snapshot.
    ok(&["store", "verify", &snapshot, &own, &remote, place.data()]);
    ok(&["store", "export", "--data-dir", place.data(), &exported]);
    assert!(ok(&["store", "verify", &exported]).contains(&format!("snapshot of revision {last}")));

    // Back to the middle: a new cluster whose revisions are new.
    let back = Place::new(dir.path(), "back");
    let revision = middle.to_string();
    let token = ["--initial-cluster-token", "after-the-accident"];
    let restore = ["store", "restore", "--from", &remote, "--to-revision", &revision, "--data-dir", back.data()];
    ok(&[&restore[..], &["--initial-cluster", &back.cluster], &token].concat());
    let (restored, kv) = back.start(&token).await;
    assert_eq!(get(&kv).await, (middle + 1_000_000_000, b"middle".to_vec()));
    assert_eq!(put(&kv, "on".into()).await, middle + 1_000_000_001);
    restored.signal(SIGTERM);

    // The same for a whole master's folder, as of now.
    let now = time::OffsetDateTime::from(Env::os().wall_now());
    let now = now.format(&time::format_description::well_known::Rfc3339).unwrap();
    let master = path("m1");
    let restore = ["store", "restore", "--from", &own, "--to-time", &now, "--data-dir", &master, "--for-server"];
    ok(&[&restore[..], &["--name", "m1", "--initial-cluster", "m1=https://127.0.0.1:1,m2=https://127.0.0.1:2"]]
        .concat());
    assert!(Path::new(&master).join("store/wal").is_dir() && Path::new(&master).join("engine").is_dir());
    let verified = ok(&["store", "verify", &master]);
    assert!(verified.contains(&format!("engine: revision {}, ", last + 1_000_000_000)), "{verified}");

    // What etcd's users bring keeps its revisions.
    let moved = Place::new(dir.path(), "moved");
    ok(&["store", "import", &snapshot, "--data-dir", moved.data(), "--initial-cluster", &moved.cluster]);
    let (imported, kv) = moved.start(&[]).await;
    assert_eq!(get(&kv).await, (21, b"before 19".to_vec()));
    imported.signal(SIGTERM);

    // Nothing is overwritten; damage has a name.
    assert_eq!(run(&["store", "import", &snapshot, "--data-dir", moved.data()]).status.code(), Some(2));
    let mut bytes = std::fs::read(&snapshot).unwrap();
    bytes[5_000] ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();
    let wrong = run(&["store", "verify", &snapshot, &remote]);
    let text = String::from_utf8_lossy(&wrong.stdout).into_owned();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text.contains("snapshot.db: WRONG: damaged: the snapshot's SHA-256"), "{text}");
    assert!(!run(&["store", "restore", &snapshot, "--data-dir", &path("never")]).status.success());
    assert!(!dir.path().join("never").exists() && !dir.path().join("never.part").exists());
}
