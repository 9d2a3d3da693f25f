use std::{
    io,
    path::{Path, PathBuf},
    sync::{atomic::Ordering::Relaxed, Arc},
};

use keelstone_env::{Disk, DiskFile, DiskLock, OpenMode};
use tokio::time::Instant;

use super::Meters;

/// A disk that measures its syncs.
pub(crate) struct MeteredDisk {
    pub disk: Arc<dyn Disk>,
    pub meters: Arc<Meters>,
}

struct MeteredFile {
    file: Box<dyn DiskFile>,
    meters: Arc<Meters>,
}

impl Disk for MeteredDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        Ok(Box::new(MeteredFile { file, meters: Arc::clone(&self.meters) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        self.disk.lock(path)
    }
}

impl DiskFile for MeteredFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.meters.log_written_bytes.fetch_add(data.len() as u64, Relaxed);
        self.file.write_all_at(data, offset)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        let started = Instant::now();
        let result = self.file.sync();
        self.meters.log_sync.observe(started.elapsed());
        result
    }
}
