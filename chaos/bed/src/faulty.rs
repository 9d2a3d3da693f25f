//! A folder seen through a filesystem (FUSE) that can be slow to sync, or fail to: everything goes to the folder behind
//! it, and only syncs and writes are asked about.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::{Failure, Outcome};

/// Names are looked up each time: the folder behind changes without this filesystem, when it loses power.
const TTL: Duration = Duration::ZERO;

/// What goes wrong, changed while the filesystem is in use.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Wrong>);

#[derive(Debug, Default)]
struct Wrong {
    sync_delay_us: AtomicU64,
    sync_fails: AtomicBool,
    write_fails: AtomicBool,
}

impl Trouble {
    /// Every sync takes so much longer.
    pub fn slow_syncs(&self, delay: Duration) {
        self.0.sync_delay_us.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Syncs, and writes too if asked for, end with EIO and do nothing.
    pub fn fail(&self, syncs: bool, writes: bool) {
        self.0.sync_fails.store(syncs, Ordering::Relaxed);
        self.0.write_fails.store(writes, Ordering::Relaxed);
    }

    /// Nothing is wrong any more.
    pub fn over(&self) {
        self.slow_syncs(Duration::ZERO);
        self.fail(false, false);
    }
}

/// The filesystem while it is mounted.
#[derive(Debug)]
pub struct FaultyDisk {
    pub trouble: Trouble,
    _session: BackgroundSession,
}

impl FaultyDisk {
    /// Shows `behind` at `front`.
    ///
    /// # Errors
    /// There is no /dev/fuse, or no right to mount.
    pub fn mount(behind: &Path, front: &Path) -> Outcome<Self> {
        fs::create_dir_all(front)?;
        let trouble = Trouble::default();
        let mut paths = BTreeMap::new();
        paths.insert(INodeNo::ROOT.0, behind.to_owned());
        let filesystem = Passing {
            trouble: trouble.clone(),
            behind: behind.to_owned(),
            kept: Mutex::new(Kept { paths, files: BTreeMap::new(), next: 1 }),
        };
        let session = fuser::spawn_mount(filesystem, front, &Config::default());
        let session = session.map_err(|e| Failure::impossible(format!("FUSE on {}: {e}", front.display())))?;
        Ok(Self { trouble, _session: session })
    }
}

struct Passing {
    trouble: Trouble,
    behind: PathBuf,
    kept: Mutex<Kept>,
}

struct Kept {
    /// Where each file that was looked up is, by the number that the kernel knows it by.
    paths: BTreeMap<u64, PathBuf>,
    files: BTreeMap<u64, Arc<File>>,
    next: u64,
}

impl Kept {
    fn open(&mut self, file: File) -> FileHandle {
        self.next += 1;
        self.files.insert(self.next, Arc::new(file));
        FileHandle(self.next)
    }
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

impl Passing {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, ino: INodeNo) -> io::Result<PathBuf> {
        self.kept().paths.get(&ino.0).cloned().ok_or_else(gone)
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    fn file(&self, handle: FileHandle) -> io::Result<Arc<File>> {
        self.kept().files.get(&handle.0).cloned().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// The root has the number 1 for the kernel, every other file its own behind.
    fn number(&self, path: &Path, metadata: &Metadata) -> u64 {
        match path == self.behind {
            true => INodeNo::ROOT.0,
            false => metadata.ino(),
        }
    }

    fn known(&self, path: PathBuf) -> io::Result<FileAttr> {
        let metadata = fs::symlink_metadata(&path)?;
        let number = self.number(&path, &metadata);
        self.kept().paths.insert(number, path);
        Ok(attributes(number, &metadata))
    }

    fn attributes_of(&self, ino: INodeNo, handle: Option<FileHandle>) -> io::Result<FileAttr> {
        // An open file may have no name any more.
        match handle.map(|h| self.file(h)) {
            Some(Ok(file)) => Ok(attributes(ino.0, &file.metadata()?)),
            _ => Ok(attributes(ino.0, &fs::symlink_metadata(self.path(ino)?)?)),
        }
    }

    /// Syncs aside: others go on meanwhile.
    fn sync(&self, file: io::Result<Arc<File>>, reply: ReplyEmpty) {
        let wrong = self.trouble.0.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(wrong.sync_delay_us.load(Ordering::Relaxed)));
            if wrong.sync_fails.load(Ordering::Relaxed) {
                return reply.error(Errno::EIO);
            }
            match file.and_then(|file| file.sync_all()) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(error.into()),
            }
        });
    }
}

fn kind(metadata: &Metadata) -> FileType {
    match metadata.is_dir() {
        true => FileType::Directory,
        false => FileType::RegularFile,
    }
}

fn attributes(number: u64, metadata: &Metadata) -> FileAttr {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    FileAttr {
        ino: INodeNo(number),
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind: kind(metadata),
        perm: u16::try_from(metadata.mode() & 0o7777).unwrap_or(0o600),
        nlink: u32::try_from(metadata.nlink()).unwrap_or(1),
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: 0,
        blksize: 4_096,
        flags: 0,
    }
}

/// An answer, or the error's number.
macro_rules! answer {
    ($reply:ident, $result:expr, |$value:pat_param| $then:expr) => {
        match $result {
            Ok($value) => $then,
            Err(error) => $reply.error(io::Error::into(error)),
        }
    };
}

impl Filesystem for Passing {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.child(parent, name).and_then(|path| self.known(path));
        answer!(reply, found, |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.attributes_of(ino, handle), |attr| reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = || {
            if let Some(size) = size {
                match handle.map(|h| self.file(h)) {
                    Some(Ok(file)) => file.set_len(size)?,
                    _ => File::options().write(true).open(self.path(ino)?)?.set_len(size)?,
                }
            }
            if let Some(mode) = mode {
                fs::set_permissions(self.path(ino)?, fs::Permissions::from_mode(mode))?;
            }
            self.attributes_of(ino, handle)
        };
        answer!(reply, change(), |attr| reply.attr(&TTL, &attr));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let made = || {
            let path = self.child(parent, name)?;
            fs::create_dir(&path)?;
            self.known(path)
        };
        answer!(reply, made(), |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.child(parent, name).and_then(fs::remove_file), |()| reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.child(parent, name).and_then(fs::remove_dir), |()| reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = || {
            let (from, to) = (self.child(parent, name)?, self.child(to_parent, to_name)?);
            fs::rename(&from, &to)?;
            // What is below a folder moves with it.
            for path in self.kept().paths.values_mut() {
                if let Ok(rest) = path.strip_prefix(&from) {
                    *path = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                }
            }
            Ok(())
        };
        answer!(reply, renamed(), |()| reply.ok());
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let access = flags.0 & libc::O_ACCMODE;
        let opened = || {
            let mut options = File::options();
            options.read(access != libc::O_WRONLY).write(access != libc::O_RDONLY);
            options.custom_flags(flags.0 & libc::O_TRUNC).open(self.path(ino)?)
        };
        answer!(reply, opened(), |file| reply.opened(self.kept().open(file), FopenFlags::empty()));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let created = || {
            let path = self.child(parent, name)?;
            let kept_flags = flags & (libc::O_TRUNC | libc::O_EXCL);
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(mode).custom_flags(kept_flags);
            let file = options.open(&path)?;
            let attr = self.known(path)?;
            Ok((attr, self.kept().open(file)))
        };
        answer!(reply, created(), |(attr, handle)| {
            reply.created(&TTL, &attr, Generation(0), handle, FopenFlags::empty());
        });
    }

    fn read(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = || {
            let file = self.file(handle)?;
            let mut data = vec![0; size as usize];
            let mut length = 0;
            while length < data.len() {
                match file.read_at(&mut data[length..], offset + length as u64)? {
                    0 => break,
                    more => length += more,
                }
            }
            data.truncate(length);
            Ok(data)
        };
        answer!(reply, read(), |data| reply.data(&data));
    }

    fn write(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if self.trouble.0.write_fails.load(Ordering::Relaxed) {
            return reply.error(Errno::EIO);
        }
        let written = self.file(handle).and_then(|file| file.write_all_at(data, offset));
        answer!(reply, written, |()| reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)));
    }

    fn flush(&self, _: &Request, _ino: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.kept().files.remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _ino: INodeNo, handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.sync(self.file(handle), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.sync(self.path(ino).and_then(File::open).map(Arc::new), reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let list = || {
            let path = self.path(ino)?;
            let mut entries = vec![(ino.0, FileType::Directory, ".".into()), (ino.0, FileType::Directory, "..".into())];
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                entries.push((metadata.ino(), kind(&metadata), entry.file_name()));
            }
            Ok(entries)
        };
        answer!(reply, list(), |entries| {
            for (place, (number, kind, name)) in
                entries.into_iter().enumerate().skip(usize::try_from(offset).unwrap_or(0))
            {
                if reply.add(INodeNo(number), place as u64 + 1, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocated = || {
            let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let mode = nix::fcntl::FallocateFlags::from_bits_truncate(mode);
            Ok(nix::fcntl::fallocate(&*self.file(handle)?, mode, signed(offset), signed(length))?)
        };
        answer!(reply, allocated(), |()| reply.ok());
    }

    fn statfs(&self, _: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let asked = nix::sys::statvfs::statvfs(&self.behind).map_err(io::Error::from);
        answer!(reply, asked, |s| {
            let size = u32::try_from(s.block_size()).unwrap_or(4_096);
            reply.statfs(s.blocks(), s.blocks_free(), s.blocks_available(), s.files(), s.files_free(), size, 255, size);
        });
    }
}
