//! Snapshots between this store and a real etcd 3.5, by etcd's own tools (`$ETCD35` is the folder of `etcd`,
//! `etcdctl` and `etcdutl` 3.5; `.ci/etcd` prints one).

// Tests start processes and read files.
#![allow(clippy::disallowed_methods)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use keelstone_backup::{
    archive::{plan, read_progress, restore, Folder, GrpcSource, GrpcSourceOptions, RecorderOptions, Target},
    etcd::{status, Epoch, EtcdFile, ImportPlace},
    BackupError,
};
use keelstone_env::Env;
use keelstone_etcd_api::{
    mvccpb,
    pb::{self, maintenance_client::MaintenanceClient},
};
use keelstone_mvcc::{Applied, Mvcc};
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions};
use tempfile::TempDir;

use crate::common::{etcd, put, Cluster};

/// etcd's tools of 3.5.
struct Tools(PathBuf);

impl Tools {
    fn find() -> Option<Self> {
        let etcd = etcd::find("ETCD35", "/usr/lib/etcd-3.5")?;
        Some(Self(etcd))
    }

    async fn run(&self, tool: &str, arguments: &[&str]) -> String {
        match self.output(tool, arguments).await {
            Ok(text) => text,
            Err(text) => panic!("{tool} {arguments:?}: {text}"),
        }
    }

    /// What it prints; an error with all of it if it fails.
    async fn output(&self, tool: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(self.0.join(tool));
        command.env("ETCDCTL_API", "3").args(arguments).stdin(Stdio::null());
        let output = Env::os().offload(move || command.output().unwrap()).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stdout) + &text(&output.stderr)),
        }
    }

    /// `etcdctl` on one member, as a user (`name:password`) or nobody.
    async fn ctl(&self, endpoint: &str, user: &str, line: &str) -> Result<String, String> {
        let user: &[&str] = if user.is_empty() { &[] } else { &["--user", user] };
        let words: Vec<&str> = line.split_whitespace().collect();
        self.output("etcdctl", &[&["--endpoints", endpoint], user, &words].concat()).await
    }

    /// `etcdctl snapshot restore` as the only member of a cluster.
    async fn restore(&self, snapshot: &str, dir: &Path, ports: &[u16]) {
        let peer = format!("http://127.0.0.1:{}", ports[1]);
        let cluster = format!("m0={peer}");
        let arguments = ["snapshot", "restore", snapshot, "--name", "m0", "--initial-cluster", &cluster];
        let rest = ["--initial-advertise-peer-urls", &peer, "--data-dir", dir.to_str().unwrap()];
        self.run("etcdctl", &[&arguments[..], &rest].concat()).await;
    }
}

/// What clients see of a store: for each revision that can be read, the key-values.
#[derive(Debug, PartialEq)]
struct Seen {
    revision: i64,
    states: Vec<(i64, Vec<mvccpb::KeyValue>)>,
    too_old: bool,
    leases: Vec<(i64, i64)>,
}

async fn see(kv: &dyn EtcdKv, leases: &[i64], from: i64) -> Seen {
    let all = |revision| pb::RangeRequest {
        key: b"\0"[..].into(),
        range_end: b"\0"[..].into(),
        revision,
        ..Default::default()
    };
    let revision = kv.range(all(0)).await.unwrap().header.unwrap().revision;
    let mut states = Vec::new();
    for at in from..=revision {
        states.push((at, kv.range(all(at)).await.unwrap().kvs));
    }
    let mut found = Vec::new();
    for id in leases {
        found.push((*id, kv.lease_keep_alive_once(*id).await.unwrap().ttl));
    }
    Seen { revision, states, too_old: kv.range(all(from - 1)).await.is_err(), leases: found }
}

fn client(endpoint: &str) -> GrpcKv {
    GrpcKv::new(&Env::os(), GrpcKvOptions::new(vec![endpoint.to_owned()])).unwrap()
}

/// Puts, updates, deletions, a transaction, leases, large values, a compaction; the first revision that can
/// still be read, and the leases.
async fn fill(kv: &dyn EtcdKv) -> (i64, Vec<i64>) {
    let mut leases = Vec::new();
    for ttl in [3600, 7200] {
        leases.push(kv.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await.unwrap().id);
    }
    for i in 0..300 {
        let value = "v".repeat(if i % 50 == 0 { 30_000 } else { i % 90 });
        let lease = if i % 7 == 0 { leases[0] } else { 0 };
        kv.put(pb::PutRequest { lease, ..put(&format!("key/{:02}", i % 40), &value) }).await.unwrap();
        if i % 11 == 0 {
            let key = format!("key/{:02}", i % 40).into();
            kv.delete_range(pb::DeleteRangeRequest { key, ..Default::default() }).await.unwrap();
        }
    }
    let ops = |key: &str| pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put(key, "txn"))) };
    kv.txn(pb::TxnRequest { success: vec![ops("t/1"), ops("t/2"), ops("t/3")], ..Default::default() }).await.unwrap();
    kv.compact(pb::CompactionRequest { revision: 200, physical: true }).await.unwrap();
    kv.put(put("last", "one")).await.unwrap();
    (200, leases)
}

/// Starts etcd 3.5 on a restored folder.
async fn serve(tools: &Tools, dir: &Path, ports: &[u16]) -> Running {
    let client = format!("http://127.0.0.1:{}", ports[0]);
    let child = Command::new(tools.0.join("etcd"))
        .args(["--name", "m0", "--data-dir", &dir.display().to_string()])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &format!("http://127.0.0.1:{}", ports[1])])
        .args(["--log-outputs", "/dev/null", "--unsafe-no-fsync"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(child);
    let kv = self::client(&format!("127.0.0.1:{}", ports[0]));
    let ready = async {
        while !matches!(kv.status().await, Ok(status) if status.leader != 0) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), ready).await.expect("etcd answers");
    running
}

/// A process that ends with the test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_saves_checks_restores_and_serves_our_snapshot() {
    let Some(tools) = Tools::find() else { return };
    let cluster = Cluster::start(1).await;
    let endpoint = cluster.endpoints().remove(0);
    let ours = client(&endpoint);
    let (from, leases) = fill(&ours).await;
    let before = see(&ours, &leases, from).await;

    let dir = TempDir::new().unwrap();
    let path = dir.path().join("snapshot.db");
    let name = path.to_str().unwrap();
    tools.run("etcdctl", &["--endpoints", &endpoint, "snapshot", "save", name]).await;
    let said = tools.run("etcdutl", &["snapshot", "status", name, "-w", "json"]).await;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let own = status(&EtcdFile::open(&**Env::os().disk(), &path, false).unwrap()).unwrap();
    assert_eq!(said, serde_json::to_value(own).unwrap());
    assert_eq!(own.revision, before.revision);

    let ports = etcd::free_ports(2);
    let restored = dir.path().join("restored");
    tools.restore(name, &restored, &ports).await;
    let _etcd = serve(&tools, &restored, &ports).await;
    let theirs = client(&format!("127.0.0.1:{}", ports[0]));
    assert_eq!(see(&theirs, &leases, from).await, before);
    // It goes on from there.
    theirs.put(put("after", "restore")).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_cut_as_etcd_cuts_them() {
    let cluster = Cluster::start(1).await;
    let endpoint = cluster.endpoints().remove(0);
    fill(&client(&endpoint)).await;
    let channel = keelstone_env::channel(&Env::os(), &endpoint, keelstone_env::ChannelOptions::default()).unwrap();
    let mut stream = MaintenanceClient::new(channel).snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    let (mut bytes, mut last) = (0_u64, None);
    while let Some(message) = stream.message().await.unwrap() {
        assert!(message.blob.len() <= 32 << 10 && !message.blob.is_empty());
        assert_eq!(message.version, "3.6.4");
        bytes += message.blob.len() as u64;
        let total = bytes + message.remaining_bytes;
        assert_eq!(last.replace(total).unwrap_or(total), total);
    }
    assert_eq!((last, bytes % 4096), (Some(bytes), 32));
    cluster.stop_all().await;
}

/// A cluster restored by `fill` on each of its members: ours, in new folders, under a new id.
async fn restored_cluster(
    members: usize,
    fill: impl Fn(&keelstone_mvcc::Mvcc, keelstone_mvcc::Applied) -> Result<i64, keelstone_backup::BackupError>
        + Clone
        + Send
        + 'static,
) -> Cluster {
    Cluster::start_restored(members, move |env, config, engine| {
        let fill = fill.clone();
        Box::pin(async move {
            keelstone_store_server::restore_member(&env, &config, engine, fill).await.unwrap();
        })
    })
    .await
}

fn import(path: &Path, epoch: Epoch) -> impl Fn(&Mvcc, Applied) -> Result<i64, BackupError> + Clone + Send + 'static {
    let path = path.to_owned();
    move |mvcc, applied| {
        let file = EtcdFile::open(&**Env::os().disk(), &path, false)?;
        keelstone_backup::etcd::import(&file, mvcc, ImportPlace { applied, epoch })
    }
}

/// Snapshots that real etcds made, with history, leases and a compaction, become clusters of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_of_etcd_are_imported_by_three_members() {
    let Some(tools) = Tools::find() else { return };
    let binaries = [Some(tools.0.join("etcd")), etcd::find("ETCD", "/usr/bin/etcd")];
    for binary in binaries.into_iter().flatten() {
        let Some(etcd) = etcd::Etcd::start_binary(binary, 1).await else { return };
        let theirs = client(&etcd.endpoints[0]);
        let (from, leases) = fill(&theirs).await;
        let before = see(&theirs, &leases, from).await;
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("snapshot.db");
        tools.run("etcdctl", &["--endpoints", &etcd.endpoints[0], "snapshot", "save", path.to_str().unwrap()]).await;
        let mut cluster = restored_cluster(3, import(&path, Epoch::default())).await;
        for endpoint in cluster.endpoints() {
            assert_eq!(see(&client(&endpoint), &leases, from).await, before);
        }
        let ours = client(&cluster.endpoints()[0]);
        let put = ours.put(put("after", "import")).await.unwrap();
        assert_eq!(put.header.unwrap().revision, before.revision + 1);
        // All of it is there after a restart, the new part too.
        for member in 0..3 {
            cluster.stop(member).await;
        }
        for member in 0..3 {
            cluster.restart(member).await;
        }
        cluster.wait_for_leader().await;
        let after = see(&client(&cluster.endpoints()[1]), &leases, from).await;
        assert_eq!((after.revision, &after.states[..before.states.len()]), (before.revision + 1, &before.states[..]));
        cluster.stop_all().await;
    }
}

/// What users may do who were made by the test below, and what `etcdctl` shows of them.
async fn check_users(tools: &Tools, endpoint: &str) -> String {
    let refused = |result: Result<String, String>, why: &str| {
        let said = result.unwrap_err();
        assert!(said.contains(why), "{said}");
    };
    assert_eq!(tools.ctl(endpoint, "ann:a", "get a1").await.unwrap(), "a1\nv\n");
    refused(tools.ctl(endpoint, "ann:a", "get z").await, "permission denied");
    refused(tools.ctl(endpoint, "ann:wrong", "get a1").await, "authentication failed");
    refused(tools.ctl(endpoint, "bare:x", "get a1").await, "authentication failed");
    refused(tools.ctl(endpoint, "", "get a1").await, "user name is empty");
    let mut shown = String::new();
    for line in ["user list", "role list", "user get ann", "user get bare", "role get readers", "get z"] {
        shown += &tools.ctl(endpoint, "root:r", line).await.unwrap();
    }
    shown
}

/// Users, roles and passwords go to etcd 3.5 and come back, with auth on all the time. Tokens do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_go_to_etcd_and_come_back() {
    let Some(tools) = Tools::find() else { return };
    let cluster = Cluster::start_with(1, |config| config.bcrypt_cost = 4).await;
    let endpoint = cluster.endpoints().remove(0);
    for line in [
        "user add root:r",
        "user grant-role root root",
        "user add ann:a",
        "user add bare --no-password",
        "role add readers",
        "role grant-permission readers readwrite a b",
        "role grant-permission readers read x",
        "user grant-role ann readers",
        "put a1 v",
        "put z v",
        "auth enable",
    ] {
        tools.ctl(&endpoint, "", line).await.unwrap_or_else(|said| panic!("{line}: {said}"));
    }
    let shown = check_users(&tools, &endpoint).await;
    let dir = TempDir::new().unwrap();
    let (out, back) = (dir.path().join("out.db"), dir.path().join("back.db"));
    let save = format!("snapshot save {}", out.display());
    tools.ctl(&endpoint, "root:r", &save).await.unwrap();
    cluster.stop_all().await;

    let ports = etcd::free_ports(2);
    let restored = dir.path().join("restored");
    tools.restore(out.to_str().unwrap(), &restored, &ports).await;
    let etcd = serve(&tools, &restored, &ports).await;
    let theirs = format!("127.0.0.1:{}", ports[0]);
    assert_eq!(check_users(&tools, &theirs).await, shown);
    tools.ctl(&theirs, "root:r", "user add eve:e").await.unwrap();
    let save = format!("snapshot save {}", back.display());
    tools.ctl(&theirs, "root:r", &save).await.unwrap();
    drop(etcd);

    let cluster = restored_cluster(3, import(&back, Epoch::default())).await;
    for endpoint in cluster.endpoints() {
        assert_eq!(
            check_users(&tools, &endpoint).await,
            format!("ann\nbare\neve\n{}", shown.trim_start_matches("ann\nbare\n"))
        );
        let said = tools.ctl(&endpoint, "eve:e", "get a1").await.unwrap_err();
        assert!(said.contains("permission denied"), "{said}");
    }
    cluster.stop_all().await;
}

/// In a new epoch a client that saw more than was restored is told so, and never sees a revision again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_cluster_never_goes_back() {
    let cluster = Cluster::start(1).await;
    let ours = client(&cluster.endpoints()[0]);
    fill(&ours).await;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("snapshot.db");
    let source =
        GrpcSource::new(&Env::os(), GrpcSourceOptions { endpoints: cluster.endpoints(), tls: None, token: None })
            .unwrap();
    let saved = keelstone_backup::etcd::save(&Env::os(), &source, &path).await.unwrap();
    let lost = ours.put(put("lost", "x")).await.unwrap().header.unwrap().revision;
    assert!(saved.revision < lost);
    let state = ours.range(pb::RangeRequest {
        key: b"key/00"[..].into(),
        range_end: b"key/99"[..].into(),
        ..Default::default()
    });
    let state = state.await.unwrap().kvs;
    cluster.stop_all().await;
    let epoch = Epoch { bump_revisions: 1_000_000_000, mark_compacted: true };
    let cluster = restored_cluster(1, import(&path, epoch)).await;
    let ours = client(&cluster.endpoints()[0]);
    let now = ours
        .range(pb::RangeRequest { key: b"key/00"[..].into(), range_end: b"key/99"[..].into(), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(now.header.unwrap().revision, saved.revision + 1_000_000_000);
    assert_eq!(now.kvs, state);
    let mut watch = ours
        .watch(pb::WatchCreateRequest { key: b"a"[..].into(), start_revision: lost, ..Default::default() })
        .await
        .unwrap();
    let told = loop {
        let answer = futures::StreamExt::next(&mut watch).await.unwrap().unwrap();
        if answer.canceled {
            break answer.compact_revision;
        }
    };
    assert_eq!(told, saved.revision + 1_000_000_000);
    cluster.stop_all().await;
}

/// A member backs itself up; a revision from the middle becomes a new cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_members_own_backup_restores_any_revision() {
    let dir = TempDir::new().unwrap();
    let backup = dir.path().join("backup");
    let cluster = Cluster::start_with(1, |config| {
        let mut options = RecorderOptions::new(&backup);
        options.flush_interval = std::time::Duration::from_millis(20);
        config.backup = Some(options);
    })
    .await;
    let ours = client(&cluster.endpoints()[0]);
    ours.put(put("a", "first")).await.unwrap();
    let folder = Folder::new(&Env::os(), &backup);
    let wait = |revision: i64| {
        let folder = folder.clone();
        async move {
            let reached = async {
                while read_progress(&folder).ok().flatten().is_none_or(|said| said.revision < revision) {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(20), reached).await.expect("the backup follows");
        }
    };
    wait(2).await;
    let middle = ours.put(put("a", "middle")).await.unwrap().header.unwrap().revision;
    let last = ours.put(put("a", "last")).await.unwrap().header.unwrap().revision;
    wait(last).await;
    let metrics = crate::http_and_tls::fetch(&cluster.endpoints()[0], "/metrics").await.1;
    assert!(metrics.contains("\nkeelstone_backup_failing 0\n"), "{metrics}");
    cluster.stop_all().await;
    let found = plan(&folder, Target::Revision(middle)).unwrap();
    let fill =
        move |mvcc: &Mvcc, applied| restore(&folder, &found, mvcc, ImportPlace { applied, epoch: Epoch::default() });
    let cluster = restored_cluster(1, fill).await;
    let kvs = client(&cluster.endpoints()[0]).range(crate::common::get("a")).await.unwrap().kvs;
    assert_eq!(kvs[0].value, "middle");
    cluster.stop_all().await;
}
