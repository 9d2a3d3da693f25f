//! Snapshot data: a pinned view on its way out, a spooled file on its way in.
//!
//! What is received goes to a file first and into the engine only when openraft says so, so that a transfer
//! that ends half-way, or one from a leader that is none any more, touches nothing.

use std::{io, path::PathBuf};

use bytes::Bytes;
use keelstone_env::{DiskFile, Env, OpenMode};
use keelstone_mvcc::{Applied, Mvcc, Pinned};

/// Suffix of files that hold snapshots being received.
const SUFFIX: &str = "snapshot";

/// What openraft passes around as a snapshot.
pub enum SnapshotHandle {
    /// A view of this member's own state; made at once, read chunk by chunk.
    Pinned(Box<Pinned>),
    /// Received from the leader.
    Spooled(Spooled),
}

/// A whole received snapshot. The file is removed when this is dropped.
pub struct Spooled {
    env: Env,
    path: PathBuf,
    /// Length of each chunk, in order.
    chunks: Vec<u32>,
}

impl SnapshotHandle {
    /// Replaces the state of `mvcc` and makes the result durable. Blocks.
    pub(crate) fn install(self, mvcc: &Mvcc, applied: Applied) -> io::Result<()> {
        match self {
            Self::Spooled(spooled) => spooled.install(mvcc, applied),
            Self::Pinned(mut pinned) => {
                let mut installer = mvcc.begin_install().map_err(io::Error::other)?;
                while let Some(chunk) = pinned.next_chunk().map_err(io::Error::other)? {
                    installer.chunk(chunk).map_err(io::Error::other)?;
                }
                installer.finish(applied).map_err(io::Error::other)
            }
        }
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        // A file that stays is removed at the next start.
        let _ = self.env.disk().remove_file(&self.path);
    }
}

impl Spooled {
    fn install(&self, mvcc: &Mvcc, applied: Applied) -> io::Result<()> {
        let file = self.env.disk().open(&self.path, OpenMode::Read)?;
        let mut installer = mvcc.begin_install().map_err(io::Error::other)?;
        let mut offset = 0;
        for length in &self.chunks {
            let mut chunk = vec![0; *length as usize];
            file.read_exact_at(&mut chunk, offset)?;
            offset += u64::from(*length);
            installer.chunk(Bytes::from(chunk)).map_err(io::Error::other)?;
        }
        installer.finish(applied).map_err(io::Error::other)
    }
}

/// A snapshot that is being received.
pub(crate) struct Spool {
    file: Box<dyn DiskFile>,
    length: u64,
    spooled: Spooled,
}

impl Spool {
    /// Blocks, as all methods here.
    pub(crate) fn create(env: &Env, dir: &std::path::Path) -> io::Result<Self> {
        env.disk().create_dir_all(dir)?;
        let path = dir.join(format!("{:016x}.{SUFFIX}", env.random().next_u64()));
        let file = env.disk().open(&path, OpenMode::Truncate)?;
        Ok(Self { file, length: 0, spooled: Spooled { env: env.clone(), path, chunks: Vec::new() } })
    }

    pub(crate) fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        let length = u32::try_from(chunk.len()).map_err(io::Error::other)?;
        self.file.write_all_at(chunk, self.length)?;
        self.length += u64::from(length);
        self.spooled.chunks.push(length);
        Ok(())
    }

    pub(crate) fn chunks(&self) -> u64 {
        self.spooled.chunks.len() as u64
    }

    pub(crate) fn finish(self) -> Spooled {
        self.spooled
    }
}

/// Removes what transfers left behind when the process ended. Blocks.
pub(crate) fn remove_leftovers(env: &Env, dir: &std::path::Path) -> io::Result<()> {
    if !env.disk().exists(dir) {
        return Ok(());
    }
    for path in env.disk().list(dir)? {
        if path.extension().is_some_and(|extension| extension == SUFFIX) {
            env.disk().remove_file(&path)?;
        }
    }
    Ok(())
}
