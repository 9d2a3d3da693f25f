use std::path::{Path, PathBuf};

use clap::Args;
use keelstone_backup::{
    archive::{self, Folder, SegmentReader},
    etcd::{status, EtcdFile},
};
use keelstone_env::Env;
use keelstone_mvcc::{Mvcc, MvccOptions};

use crate::{commands::store::open_engine, Failure};

#[derive(Args)]
pub struct VerifyArguments {
    /// Snapshot files, log segments, backup folders, or data folders of stopped members.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

/// Looks at all of them, then fails if anything was wrong.
pub async fn run(arguments: VerifyArguments) -> Result<(), Failure> {
    let env = Env::os();
    let mut faults = 0;
    for path in arguments.paths {
        let (worker, checked) = (env.clone(), path.clone());
        match env.offload(move || verify(&worker, &checked)).await {
            Ok(lines) => lines.iter().for_each(|line| println!("{}: ok: {line}", path.display())),
            Err(wrong) => {
                faults += wrong.len();
                wrong.iter().for_each(|fault| println!("{}: WRONG: {fault}", path.display()));
            }
        }
    }
    match faults {
        0 => Ok(()),
        faults => Err(Failure::Failed(format!("{faults} things are wrong"))),
    }
}

/// What is there, or what is wrong with it.
fn verify(env: &Env, path: &Path) -> Result<Vec<String>, Vec<String>> {
    let disk = env.disk();
    if !disk.exists(path) {
        return Err(vec!["nothing is there".into()]);
    }
    let data = [path.to_owned(), path.join("store")].into_iter().find(|dir| disk.exists(&dir.join("wal")));
    if let Some(store_dir) = data {
        return member(env, path, &store_dir);
    }
    let is_segment = path.extension().is_some_and(|extension| extension == "seg" || extension == "part");
    if disk.list(path).is_ok() {
        return backup(env, path);
    }
    let said = if is_segment { segment(env, path) } else { snapshot(env, path) };
    said.map(|line| vec![line]).map_err(|error| vec![error.to_string()])
}

fn snapshot(env: &Env, path: &Path) -> Result<String, keelstone_backup::BackupError> {
    let file = EtcdFile::open(&**env.disk(), path, false)?;
    let found = status(&file)?;
    let mut rows = file.rows();
    while rows.next()?.is_some() {}
    let head = file.head()?;
    Ok(format!("snapshot of revision {}, {} rows, {} leases", head.revision, found.total_key, head.leases.len()))
}

fn segment(env: &Env, path: &Path) -> Result<String, keelstone_backup::BackupError> {
    let is_open = path.extension().is_some_and(|extension| extension == "part");
    let mut reader = SegmentReader::open(&**env.disk(), path, is_open)?;
    let first = reader.header().first_revision;
    let (mut frames, mut through) = (0, first - 1);
    while let Some(frame) = reader.next()? {
        (frames, through) = (frames + 1, frame.through);
    }
    Ok(format!("log segment of revisions {first} to {through}, {frames} frames"))
}

fn backup(env: &Env, path: &Path) -> Result<Vec<String>, Vec<String>> {
    let found = archive::verify(&Folder::new(env, path)).map_err(|error| vec![error.to_string()])?;
    if found.fulls == 0 {
        return Err(vec!["neither a member's data nor a backup with a full snapshot".into()]);
    }
    if !found.faults.is_empty() {
        return Err(found.faults);
    }
    let ranges: Vec<String> = found.ranges.iter().map(|(first, last)| format!("{first} to {last}")).collect();
    let (fulls, segments) = (found.fulls, found.segments);
    Ok(vec![format!("{fulls} full backups, {segments} log segments; revisions {}", ranges.join(", "))])
}

/// The log by its checksums, the engine by reading all of it.
fn member(env: &Env, data_dir: &Path, store_dir: &Path) -> Result<Vec<String>, Vec<String>> {
    let (mut lines, mut faults) = (Vec::new(), Vec::new());
    match keelstone_wal::verify(env, &store_dir.join("wal")) {
        Ok(log) => lines.push(format!(
            "log: {} segments, entries {} to {}, {} bytes of a torn end",
            log.segments,
            log.first.map_or("-".into(), |first| first.to_string()),
            log.last.map_or("-".into(), |(last, _)| last.to_string()),
            log.torn_bytes
        )),
        Err(error) => faults.push(error.to_string()),
    }
    match engine(data_dir) {
        Ok(line) => lines.push(line),
        Err(error) => faults.push(error),
    }
    if faults.is_empty() {
        Ok(lines)
    } else {
        Err(faults)
    }
}

fn engine(data_dir: &Path) -> Result<String, String> {
    if !data_dir.join("engine").is_dir() {
        return Err("the engine's folder is missing".into());
    }
    let engine = open_engine(data_dir).map_err(|failure| match failure {
        Failure::Usage(text) | Failure::Failed(text) => format!("engine: {text}"),
    })?;
    let mvcc = Mvcc::open(engine, MvccOptions::default()).map_err(|error| format!("engine: {error}"))?;
    let (hash, ..) = mvcc.hash_kv(0).map_err(|error| format!("engine: {error}"))?;
    let (revision, compacted) = (mvcc.revision(), mvcc.compacted_revision());
    Ok(format!("engine: revision {revision}, compacted {compacted}, hash {hash:08x}"))
}
