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

use keelstone_env::{Disk, DiskFile, OpenMode, Random};

use crate::SeededRandom;

/// What goes wrong on a disk, beside crashes.
#[derive(Clone, Debug, Default)]
pub struct DiskFaults {
    /// Syncs answer without having done anything: the planted defect that durability checks must find.
    pub lying_sync: bool,
    /// Writes fail with "no space" while the files together are larger than this.
    pub capacity_bytes: Option<u64>,
}

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
    syncs: u64,
}

#[derive(Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLength(usize),
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
        })))
    }

    pub fn set_faults(&self, faults: DiskFaults) {
        self.state().faults = faults;
    }

    /// How many syncs were asked for.
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
        state.folders = BTreeSet::from([PathBuf::from("/")]);
    }

    /// The host loses its power: cuts what was not synced at seeded points. Call it while the host is down.
    pub fn crash(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        let kept = state.random.below(state.pending_names.len() as u64 + 1) as usize;
        for change in state.pending_names.drain(..).take(kept) {
            apply_names(&mut state.durable_names, &change);
        }
        state.names = state.durable_names.clone();
        for inode in state.inodes.values_mut() {
            let kept = state.random.below(inode.pending.len() as u64 + 1) as usize;
            let torn = state.random.chance(50);
            for (i, change) in inode.pending.drain(..).enumerate().take(kept + usize::from(torn)) {
                let keep_bytes = match &change {
                    Change::Write { data, .. } if i == kept => state.random.below(data.len() as u64 + 1) as usize,
                    _ if i == kept => break,
                    _ => usize::MAX,
                };
                apply(&mut inode.durable, &change, keep_bytes);
            }
            inode.current = inode.durable.clone();
        }
        let live: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|id, _| live.contains(id));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the disk is locked")
    }
}

impl State {
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
        if let (Some(capacity), Change::Write { data, .. }) = (self.faults.capacity_bytes, &change) {
            if self.used_bytes() + data.len() as u64 > capacity {
                return Err(ErrorKind::StorageFull.into());
            }
        }
        let inode = self.inodes.get_mut(&id).ok_or(ErrorKind::NotFound)?;
        apply(&mut inode.current, &change, usize::MAX);
        inode.pending.push(change);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
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
        state.change_names(&folder, vec![(from.to_owned(), None), (to.to_owned(), Some(id))]);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
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
        let mut guard = self.state();
        let state = &mut *guard;
        state.syncs += 1;
        if state.faults.lying_sync {
            return Ok(());
        }
        let (synced, pending) = state.pending_names.drain(..).partition(|c: &NameChange| c.folder == dir);
        state.pending_names = pending;
        for change in &synced {
            apply_names(&mut state.durable_names, change);
        }
        Ok(())
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
        let mut state = self.disk.state();
        state.syncs += 1;
        if state.faults.lying_sync {
            return Ok(());
        }
        let inode = state.inodes.get_mut(&self.id).ok_or(ErrorKind::NotFound)?;
        for change in inode.pending.drain(..) {
            apply(&mut inode.durable, &change, usize::MAX);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &SimDisk, path: &str, text: &str, sync: bool) {
        let mut file = disk.open(Path::new(path), OpenMode::Truncate).unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
        if sync {
            file.sync().unwrap();
        }
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_only_a_prefix_of_the_rest() {
        let (mut lost, mut torn) = (0, 0);
        for seed in 0..200 {
            let disk = SimDisk::new(seed, "h");
            disk.create_dir_all(Path::new("/d")).unwrap();
            write(&disk, "/d/synced", "kept", true);
            disk.sync_dir(Path::new("/d")).unwrap();
            let mut file = disk.open(Path::new("/d/synced"), OpenMode::Write).unwrap();
            file.write_all_at(b"-more", 4).unwrap();
            disk.crash();
            let content = String::from_utf8(disk.read(Path::new("/d/synced")).unwrap()).unwrap();
            assert!("kept-more".starts_with(&content) && content.starts_with("kept"), "{content}");
            lost += i32::from(content == "kept");
            torn += i32::from(content.len() > 4 && content.len() < 9);
        }
        assert!(lost > 20 && torn > 20, "lost {lost}, torn {torn} of 200");
    }

    #[test]
    fn a_name_that_was_not_synced_may_be_gone() {
        let mut gone = 0;
        for seed in 0..100 {
            let disk = SimDisk::new(seed, "h");
            disk.create_dir_all(Path::new("/d")).unwrap();
            write(&disk, "/d/new", "x", true);
            disk.crash();
            gone += i32::from(!disk.exists(Path::new("/d/new")));
        }
        assert!((20..80).contains(&gone), "gone {gone} of 100");
    }

    #[test]
    fn atomic_replacement_is_atomic() {
        for seed in 0..100 {
            let disk = SimDisk::new(seed, "h");
            disk.create_dir_all(Path::new("/d")).unwrap();
            disk.write_atomically(Path::new("/d/f"), b"old").unwrap();
            disk.write_atomically(Path::new("/d/f"), b"new").unwrap();
            disk.crash();
            assert_eq!(disk.read(Path::new("/d/f")).unwrap(), b"new");
        }
    }

    #[test]
    fn a_full_disk_says_so() {
        let disk = SimDisk::new(1, "h");
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.set_faults(DiskFaults { capacity_bytes: Some(10), ..DiskFaults::default() });
        let mut file = disk.open(Path::new("/d/f"), OpenMode::Truncate).unwrap();
        file.write_all_at(&[0; 10], 0).unwrap();
        assert_eq!(file.write_all_at(&[0; 1], 10).unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
