//! A disk that forgets what was not synced.
//!
//! A file has its current content, its durable content and the operations between the two. A sync applies
//! the operations to the durable content. A crash applies a seeded prefix of them (the last may be torn)
//! and drops the rest. Names work the same way, folder by folder: creation, renaming and removal are
//! durable from [`keelstone_env::Disk::sync_dir`] on. Folders themselves are durable at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use keelstone_env::{Disk, DiskFile, DiskLock, OpenMode, Random};

use crate::SeededRandom;

mod faults;

pub use faults::{Damage, DiskFaults, PowerCut};

#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct State {
    random: SeededRandom,
    faults: DiskFaults,
    folders: BTreeSet<PathBuf>,
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    /// Syncs and renames so far.
    syncs: u64,
    power_gone: bool,
    misdirect_next: bool,
    damage: Vec<Damage>,
    /// An appended write that went elsewhere, while nothing durable lies behind its place.
    astray: Option<(u64, Change)>,
    /// What the process of the host holds, and the number of each lock.
    locks: BTreeMap<PathBuf, u64>,
    lock_next: u64,
}

#[derive(Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// The end of what is durable, without zeros that were written ahead of what is to come.
    written: usize,
    /// `written` before the last sync that moved it on; 0 if the file was written at once.
    settled: usize,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLength(usize),
}

impl Change {
    /// Where it ends in the file.
    fn end(&self) -> usize {
        match self {
            Self::Write { offset, data } => offset + data.len(),
            Self::SetLength(length) => *length,
        }
    }

    /// The same, but zeros at its end do not count.
    fn written_end(&self, keep_bytes: usize) -> usize {
        match self {
            Self::Write { offset, data } => {
                let data = &data[..keep_bytes.min(data.len())];
                data.iter().rposition(|byte| *byte != 0).map_or(0, |last| offset + last + 1)
            }
            Self::SetLength(_) => 0,
        }
    }
}

impl Inode {
    /// Keeps a seeded prefix of the changes; the one after it may be torn.
    fn lose_unsynced(&mut self, random: &SeededRandom) {
        let kept = random.below(self.pending.len() as u64 + 1) as usize;
        let torn = random.chance(50);
        let before = self.written;
        let pending = std::mem::take(&mut self.pending);
        for (i, change) in pending.iter().enumerate().take(kept + usize::from(torn)) {
            let keep_bytes = match change {
                Change::Write { data, .. } if i == kept => random.below(data.len() as u64 + 1) as usize,
                _ if i == kept => break,
                _ => usize::MAX,
            };
            self.make_durable(change, keep_bytes);
        }
        // What a crash happened to keep was never synced: it does not vouch for what lies before it.
        let grown = self.settled == 0 && self.written > before;
        self.settled = if grown { before } else { self.settled.min(self.written) };
        self.current.clone_from(&self.durable);
    }

    fn sync(&mut self) {
        let mut kept = self.written;
        for change in std::mem::take(&mut self.pending) {
            if let Change::SetLength(length) = change {
                kept = kept.min(length);
            }
            self.make_durable(&change, usize::MAX);
        }
        self.settled = if self.written > kept { kept } else { self.settled.min(kept) };
    }

    fn make_durable(&mut self, change: &Change, keep_bytes: usize) {
        apply(&mut self.durable, change, keep_bytes);
        self.written = self.written.max(change.written_end(keep_bytes)).min(self.durable.len());
    }

    /// How many of the first durable bytes may be damaged. Damage to the end of a file that grows looks like a write
    /// that a crash cut short: nobody can tell them apart, so the end is spared until something is synced behind it.
    fn damageable(&self) -> usize {
        if self.settled == 0 {
            self.written
        } else {
            self.settled
        }
    }
}

/// A change of names in one folder; `None` removes the name.
struct NameChange {
    folder: PathBuf,
    names: Vec<(PathBuf, Option<u64>)>,
}

fn apply(content: &mut Vec<u8>, change: &Change, keep_bytes: usize) {
    match change {
        Change::Write { offset, data } => {
            let data = &data[..keep_bytes.min(data.len())];
            let end = offset + data.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(data);
        }
        Change::SetLength(length) => content.resize(*length, 0),
    }
}

fn apply_names(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) {
    for (path, inode) in &change.names {
        match inode {
            Some(inode) => names.insert(path.clone(), *inode),
            None => names.remove(path),
        };
    }
}

impl SimDisk {
    pub fn new(seed: u64, host: &str) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: SeededRandom::derive(seed, &format!("disk of {host}")),
            faults: DiskFaults::default(),
            folders: BTreeSet::from([PathBuf::from("/")]),
            inodes: BTreeMap::new(),
            inode_next: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            syncs: 0,
            power_gone: false,
            misdirect_next: false,
            damage: Vec::new(),
            astray: None,
            locks: BTreeMap::new(),
            lock_next: 0,
        })))
    }

    /// How many syncs and renames were asked for.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Everything is gone: the disk was replaced.
    pub fn replace(&self) {
        let mut state = self.state();
        state.inodes.clear();
        state.names.clear();
        state.durable_names.clear();
        state.pending_names.clear();
        state.astray = None;
        state.folders = BTreeSet::from([PathBuf::from("/")]);
    }

    /// The host loses its power: cuts what was not synced at seeded points. Call it while the host is down.
    pub fn crash(&self) {
        self.state().lose_unsynced();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the disk is locked")
    }
}

impl State {
    fn lose_unsynced(&mut self) {
        self.bring_back_astray();
        let kept = self.random.below(self.pending_names.len() as u64 + 1) as usize;
        for change in self.pending_names.drain(..).take(kept) {
            apply_names(&mut self.durable_names, &change);
        }
        self.names = self.durable_names.clone();
        for inode in self.inodes.values_mut() {
            inode.lose_unsynced(&self.random);
        }
        let live: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|id, _| live.contains(id));
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|id| self.inodes.get(id)).map(|i| i.current.len() as u64).sum()
    }

    fn change_names(&mut self, folder: &Path, names: Vec<(PathBuf, Option<u64>)>) {
        let change = NameChange { folder: folder.to_owned(), names };
        apply_names(&mut self.names, &change);
        self.pending_names.push(change);
    }

    fn create(&mut self, path: &Path) -> io::Result<u64> {
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        if !self.folders.contains(&folder) {
            return Err(ErrorKind::NotFound.into());
        }
        let id = self.inode_next;
        self.inode_next += 1;
        self.inodes.insert(id, Inode::default());
        self.change_names(&folder, vec![(path.to_owned(), Some(id))]);
        Ok(id)
    }

    fn change(&mut self, id: u64, change: Change) -> io::Result<()> {
        self.access()?;
        faults::check_space(self, &change)?;
        let (id, change) = self.misdirected(id, &change).unwrap_or((id, change));
        let inode = self.inodes.get_mut(&id).ok_or(ErrorKind::NotFound)?;
        apply(&mut inode.current, &change, usize::MAX);
        inode.pending.push(change);
        Ok(())
    }

    fn sync_names(&mut self, dir: &Path) {
        let (synced, pending) = self.pending_names.drain(..).partition(|c: &NameChange| c.folder == dir);
        self.pending_names = pending;
        for change in &synced {
            apply_names(&mut self.durable_names, change);
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.access()?;
        let found = state.names.get(path).copied();
        let id = match (mode, found) {
            (OpenMode::CreateNew, Some(_)) => return Err(ErrorKind::AlreadyExists.into()),
            (OpenMode::Read | OpenMode::Write, None) => return Err(ErrorKind::NotFound.into()),
            (OpenMode::CreateNew | OpenMode::Truncate, None) => state.create(path)?,
            (OpenMode::Truncate, Some(id)) => {
                state.change(id, Change::SetLength(0))?;
                id
            }
            (OpenMode::Read | OpenMode::Write, Some(id)) => id,
        };
        Ok(Box::new(SimFile { disk: self.clone(), id, writable: mode != OpenMode::Read }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        for folder in path.ancestors() {
            state.folders.insert(folder.to_owned());
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        if !state.folders.contains(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let files = state.names.keys().filter(|p| p.parent() == Some(dir));
        let folders = state.folders.iter().filter(|p| p.parent() == Some(dir));
        Ok(files.chain(folders).cloned().collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.state();
        state.names.contains_key(path) || state.folders.contains(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let id = state.names.get(from).copied().ok_or(ErrorKind::NotFound)?;
        let folder = to.parent().unwrap_or(Path::new("/")).to_owned();
        if from.parent() != to.parent() {
            return Err(io::Error::new(ErrorKind::Unsupported, "the simulated disk renames within one folder"));
        }
        state.access()?;
        state.boundary(|state| {
            state.change_names(&folder, vec![(from.to_owned(), None), (to.to_owned(), Some(id))]);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.access()?;
        if !state.names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        state.change_names(&folder, vec![(path.to_owned(), None)]);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let inside: Vec<PathBuf> = state.names.keys().filter(|p| p.starts_with(path)).cloned().collect();
        for file in inside {
            let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
            state.change_names(&folder, vec![(file, None)]);
        }
        state.folders.retain(|f| !f.starts_with(path));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.access()?;
        state.boundary(|state| {
            if !state.faults.lying_sync {
                state.sync_names(dir);
            }
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let mut state = self.state();
        if state.locks.contains_key(path) {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.lock_next += 1;
        let number = state.lock_next;
        state.locks.insert(path.to_owned(), number);
        drop(state);
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), number }))
    }
}

/// It goes with the process that holds it, whatever remembers that process.
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    number: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.locks.get(&self.path) == Some(&self.number) {
            state.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    id: u64,
    writable: bool,
}

impl SimFile {
    fn change(&self, change: Change) -> io::Result<()> {
        if !self.writable {
            return Err(ErrorKind::PermissionDenied.into());
        }
        self.disk.state().change(self.id, change)
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        Ok(state.inodes.get(&self.id).ok_or(ErrorKind::NotFound)?.current.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        state.access()?;
        let content = &state.inodes.get(&self.id).ok_or(ErrorKind::NotFound)?.current;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let part = content.get(start..start.saturating_add(buffer.len())).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(Change::Write { offset, data: data.to_vec() })
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.change(Change::SetLength(usize::try_from(length).map_err(io::Error::other)?))
    }

    fn sync(&mut self) -> io::Result<()> {
        let id = self.id;
        let mut state = self.disk.state();
        if let Err(error) = state.access() {
            if !state.power_gone {
                state.drop_unsynced(id);
            }
            return Err(error);
        }
        state.boundary(|state| {
            if state.faults.lying_sync {
                return Ok(());
            }
            let inode = state.inodes.get_mut(&id).ok_or(ErrorKind::NotFound)?;
            inode.sync();
            let written = inode.written;
            state.astray.take_if(|(of, change)| *of == id && change.end() < written);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
