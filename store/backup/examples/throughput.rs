//! How fast snapshots are made and taken in, and what memory that needs beside the store itself.
//! `cargo run --release -p keelstone-backup --example throughput -- 200000 1024`

use std::sync::Arc;

use bytes::Bytes;
use keelstone_backup::{
    archive::MvccSource,
    etcd::{import, save, About, Epoch, EtcdFile, EtcdSnapshot, ImportPlace},
};
use keelstone_engine::MemEngine;
use keelstone_env::Env;
use keelstone_etcd_api::pb;
use keelstone_mvcc::{Applied, Command, Entry, Mvcc, MvccOptions, Op, Payload};

const PUTS_PER_BATCH: u64 = 1_000;

fn empty() -> Arc<Mvcc> {
    Arc::new(Mvcc::open(Arc::new(MemEngine::volatile()), MvccOptions::default()).expect("an empty engine"))
}

fn fill(mvcc: &Mvcc, keys: u64, value: &Bytes) {
    for batch in 0..keys.div_ceil(PUTS_PER_BATCH) {
        let entries = (batch * PUTS_PER_BATCH..((batch + 1) * PUTS_PER_BATCH).min(keys)).map(|index| {
            let key = format!("/registry/pods/namespace/{index:012}").into();
            let put = Op::Put(pb::PutRequest { key, value: value.clone(), ..Default::default() });
            let payload = Payload::Command(Command { proposer_term: 1, op: Some(put), caller: None });
            Entry { index, term: 1, log_id: Bytes::from_static(b"x"), payload }
        });
        mvcc.apply(entries.collect()).expect("puts apply");
    }
}

/// Resident memory now, in MiB.
fn resident_mib(env: &Env) -> u64 {
    let status = env.disk().read(std::path::Path::new("/proc/self/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status).into_owned();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn say(what: &str, bytes: u64, took: std::time::Duration, more_mib: u64) {
    let mib = bytes as f64 / f64::from(1 << 20);
    let speed = mib / took.as_secs_f64();
    println!("{what}: {mib:.0} MiB in {:.2} s, {speed:.0} MiB/s, {more_mib} MiB more memory", took.as_secs_f64());
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let (keys, value_bytes) = (numbers.next().unwrap_or(200_000), numbers.next().unwrap_or(1_024));
    let env = Env::os();
    let mvcc = empty();
    fill(&mvcc, keys, &vec![b'v'; usize::try_from(value_bytes).unwrap_or(1_024)].into());
    println!("{keys} keys with values of {value_bytes} bytes; resident {} MiB", resident_mib(&env));

    let before = resident_mib(&env);
    let start = env.now();
    let mut snapshot = EtcdSnapshot::new(mvcc.export().expect("a view"), About::default()).expect("a snapshot");
    let counted = start.elapsed();
    let (mut bytes, mut peak) = (0, before);
    while let Some(piece) = snapshot.next_bytes().expect("bytes") {
        bytes += piece.len() as u64;
        peak = peak.max(resident_mib(&env));
    }
    println!("counting its pages: {:.2} s", counted.as_secs_f64());
    say("streaming a snapshot, counting included", bytes, start.elapsed(), peak - before);

    let dir = tempfile::TempDir::new().expect("a folder");
    let path = dir.path().join("snapshot.db");
    let start = env.now();
    let source = MvccSource::new(env.clone(), Arc::clone(&mvcc), 1, About::default());
    save(&env, &source, &path).await.expect("a file");
    say("saving a snapshot, with fsync and its check", bytes, start.elapsed(), 0);

    let start = env.now();
    let file = EtcdFile::open(&**env.disk(), &path, false).expect("a snapshot file");
    let copy = empty();
    let applied = Applied { index: 1, log_id: Bytes::from_static(b"y"), membership: Bytes::new() };
    import(&file, &copy, ImportPlace { applied, epoch: Epoch::default() }).expect("an import");
    say("importing it, with its check", bytes, start.elapsed(), 0);
    assert_eq!(mvcc.hash_kv(0).expect("a hash"), copy.hash_kv(0).expect("a hash"));
}
