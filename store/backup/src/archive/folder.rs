use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use keelstone_env::{Disk, Env};

use crate::BackupError;

/// A backup's folder: names in, names out. All calls block.
#[derive(Clone)]
pub struct Folder {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// A full backup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Full {
    pub revision: i64,
    /// When that revision was the newest one, at the latest.
    pub unix_ms: u64,
    pub path: PathBuf,
}

/// A log segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    pub first_revision: i64,
    pub is_open: bool,
    pub path: PathBuf,
}

const CLOSED: &str = "seg";
const OPEN: &str = "part";
const FULL: &str = "db";
const UNFINISHED: &str = "incoming";

impl Folder {
    pub fn new(env: &Env, dir: impl Into<PathBuf>) -> Self {
        Self { disk: Arc::clone(env.disk()), dir: dir.into() }
    }

    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn create(&self) -> Result<(), BackupError> {
        self.disk.create_dir_all(&self.dir).map_err(BackupError::at(&self.dir))
    }

    fn list(&self) -> Result<Vec<PathBuf>, BackupError> {
        self.disk.list(&self.dir).map_err(BackupError::at(&self.dir))
    }

    /// The full backups, oldest first.
    pub fn fulls(&self) -> Result<Vec<Full>, BackupError> {
        let full = |path: PathBuf| {
            let numbers = name(&path, "full-", FULL)?;
            let (revision, unix_ms) = numbers.split_once('-')?;
            Some(Full { revision: number(revision)?.cast_signed(), unix_ms: number(unix_ms)?, path })
        };
        let mut found: Vec<Full> = self.list()?.into_iter().filter_map(full).collect();
        found.sort();
        Ok(found)
    }

    /// The log segments, oldest first. Of two with one first revision, which a crash while one was closed may
    /// leave, the closed one counts.
    pub fn segments(&self) -> Result<Vec<SegmentName>, BackupError> {
        let segment = |path: PathBuf| {
            let (first, is_open) = match name(&path, "log-", CLOSED) {
                Some(first) => (first, false),
                None => (name(&path, "log-", OPEN)?, true),
            };
            Some(SegmentName { first_revision: number(first)?.cast_signed(), is_open, path })
        };
        let mut found: Vec<SegmentName> = self.list()?.into_iter().filter_map(segment).collect();
        found.sort();
        found.dedup_by_key(|segment| segment.first_revision);
        Ok(found)
    }

    pub fn open_segment(&self, first_revision: i64) -> PathBuf {
        self.dir.join(format!("log-{first_revision:016x}.{OPEN}"))
    }

    pub fn closed_segment(&self, first_revision: i64) -> PathBuf {
        self.dir.join(format!("log-{first_revision:016x}.{CLOSED}"))
    }

    pub fn full(&self, revision: i64, unix_ms: u64) -> PathBuf {
        self.dir.join(format!("full-{revision:016x}-{unix_ms:016x}.{FULL}"))
    }

    /// Where a full backup is received.
    pub fn incoming(&self, unique: u64) -> PathBuf {
        self.dir.join(format!("full-{unique:016x}.{UNFINISHED}"))
    }

    /// Removes what was being received when an earlier run ended.
    pub fn remove_unfinished(&self) -> Result<(), BackupError> {
        for path in self.list()? {
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Gives a file its name, durably.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), BackupError> {
        self.disk.rename(from, to).map_err(BackupError::at(from))?;
        self.disk.sync_dir(&self.dir).map_err(BackupError::at(&self.dir))
    }

    pub fn remove(&self, path: &Path) -> Result<(), BackupError> {
        self.disk.remove_file(path).map_err(BackupError::at(path))
    }

    fn owner(&self) -> PathBuf {
        self.dir.join("owner")
    }

    /// Makes `owner` the one who writes here.
    pub fn take_over(&self, owner: &str) -> Result<(), BackupError> {
        self.disk.write_atomically(&self.owner(), owner.as_bytes()).map_err(BackupError::at(self.owner()))
    }

    pub fn is_owned_by(&self, owner: &str) -> Result<bool, BackupError> {
        Ok(self.disk.read(&self.owner()).map_err(BackupError::at(self.owner()))? == owner.as_bytes())
    }

    /// Removes all but the newest `keep` full backups, and the segments that only older ones need. Returns how
    /// many files went.
    pub fn prune(&self, keep: usize) -> Result<usize, BackupError> {
        let fulls = self.fulls()?;
        let (old, kept) = fulls.split_at(fulls.len().saturating_sub(keep.max(1)));
        let Some(oldest) = kept.first() else { return Ok(0) };
        let mut gone: Vec<PathBuf> = old.iter().map(|full| full.path.clone()).collect();
        for pair in self.segments()?.windows(2) {
            if pair[1].first_revision <= oldest.revision.saturating_add(1) {
                gone.push(pair[0].path.clone());
            }
        }
        for path in &gone {
            self.remove(path)?;
        }
        if !gone.is_empty() {
            self.disk.sync_dir(&self.dir).map_err(BackupError::at(&self.dir))?;
        }
        Ok(gone.len())
    }
}

fn name<'a>(path: &'a Path, prefix: &str, extension: &str) -> Option<&'a str> {
    (path.extension()?.to_str()? == extension).then_some(())?;
    path.file_stem()?.to_str()?.strip_prefix(prefix)
}

fn number(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}
