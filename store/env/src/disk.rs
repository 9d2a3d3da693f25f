use std::{io, path::Path, path::PathBuf};

/// How [`Disk::open`] treats a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; read only.
    Read,
    /// Must exist; read and write.
    Write,
    /// Must not exist; read and write.
    CreateNew,
    /// Made if missing, emptied if present; read and write.
    Truncate,
}

/// A file system. Calls block: callers run them through [`crate::Env::offload`] unless they are at start-up.
///
/// The contract is POSIX's: file contents are durable after [`DiskFile::sync`]; a new, renamed or removed
/// name is durable after [`Disk::sync_dir`] on its folder. The simulator forgets the rest at a crash.
pub trait Disk: Send + Sync + 'static {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The paths in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    fn exists(&self, path: &Path) -> bool;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the file `path`, made if missing, for this holder alone, until the guard is dropped or the process
    /// ends. `WouldBlock` if another holder has it, in this process or another one.
    fn lock(&self, path: &Path) -> io::Result<DiskLock>;

    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let mut content = vec![0; length];
        file.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    /// Replaces a file's content so that a crash leaves the old or the new content, never a mixture.
    fn write_atomically(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let mut file = self.open(&temporary, OpenMode::Truncate)?;
        file.write_all_at(content, 0)?;
        file.sync()?;
        drop(file);
        self.rename(&temporary, path)?;
        match path.parent() {
            Some(dir) => self.sync_dir(dir),
            None => Ok(()),
        }
    }
}

/// A file held by [`Disk::lock`]; dropping it lets go.
pub type DiskLock = Box<dyn std::any::Any + Send + Sync>;

/// An open file. Positions and lengths are in bytes.
pub trait DiskFile: Send + Sync {
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buffer` from `offset`; `UnexpectedEof` if the file is shorter.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()>;
    fn set_len(&mut self, length: u64) -> io::Result<()>;
    /// Makes content and length durable (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
}
