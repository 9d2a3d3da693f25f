//! Segment files: names, creation, and the operations the writer runs on the blocking pool.

use std::{
    io,
    path::{Path, PathBuf},
};

use keelstone_env::{Disk, DiskFile, Env, OpenMode};

use crate::codec;

const SUFFIX: &str = "wal";

pub(crate) fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.{SUFFIX}"))
}

/// The sequence that a file name stands for; `None` if it is no segment.
pub(crate) fn sequence(path: &Path) -> Option<u64> {
    if path.extension()?.to_str()? != SUFFIX {
        return None;
    }
    let stem = path.file_stem()?.to_str()?;
    if stem.len() != 16 {
        return None;
    }
    u64::from_str_radix(stem, 16).ok()
}

/// The marks that a new segment repeats.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    pub vote: Option<bytes::Bytes>,
    pub committed: Option<bytes::Bytes>,
    pub purged: Option<(u64, bytes::Bytes)>,
}

/// The segment that is written to.
pub(crate) struct OpenSegment {
    pub file: Box<dyn DiskFile>,
    pub sequence: u64,
    pub salt: u64,
    /// Number of the next frame.
    pub frames: u64,
    /// Length in bytes.
    pub length: u64,
    /// Offset below which all is durable.
    pub synced: u64,
    /// Offset up to which the file is known to reach: zeros lie between `length` and it.
    pub reserved: u64,
    /// The highest index of an entry in it; 0 if it has none.
    pub index_max: u64,
}

impl OpenSegment {
    /// Makes a segment that holds the marks. It has its name only once all that is durable.
    pub(crate) fn create(env: &Env, dir: &Path, sequence: u64, marks: &Marks) -> io::Result<Self> {
        let salt = env.random().next_u64();
        let mut content = codec::encode_header(sequence, salt);
        let at = codec::begin_frame(&mut content);
        if let Some(vote) = &marks.vote {
            codec::put_vote(&mut content, vote);
        }
        if let Some((through, mark)) = &marks.purged {
            codec::put_purge(&mut content, *through, mark);
        }
        if let Some(committed) = &marks.committed {
            codec::put_committed(&mut content, committed);
        }
        codec::end_frame(&mut content, at, salt, 0, 0);
        let path = path(dir, sequence);
        env.disk().write_atomically(&path, &content)?;
        let file = env.disk().open(&path, OpenMode::Write)?;
        let length = content.len() as u64;
        Ok(Self { file, sequence, salt, frames: 1, length, synced: length, reserved: length, index_max: 0 })
    }

    /// Appends whole frames; with `sync`, all of the segment is durable afterwards. When the file has to grow, it
    /// grows by `reserve_bytes` of zeros more: a sync that finds neither a new length nor new blocks need not wait for
    /// the file system's journal.
    pub(crate) fn write(&mut self, frames: &[u8], sync: bool, reserve_bytes: usize) -> io::Result<()> {
        self.file.write_all_at(frames, self.length)?;
        self.length += frames.len() as u64;
        if self.reserved < self.length {
            // A disk that has no room for it has it for the frames, or says so next time.
            let reserve = self.file.write_all_at(&vec![0; reserve_bytes], self.length);
            self.reserved = self.length + if reserve.is_ok() { reserve_bytes as u64 } else { 0 };
        }
        if sync {
            self.sync()?;
        }
        Ok(())
    }

    /// A failure is for good and never "no space", which could pass: what it lost, also of older writes, is unknown.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.synced < self.length {
            self.sync_file()?;
        }
        Ok(())
    }

    fn sync_file(&mut self) -> io::Result<()> {
        self.file.sync().map_err(|error| not_full("sync", error))?;
        self.synced = self.length;
        Ok(())
    }

    /// Gives back what was reserved: a segment that is not the last one ends with its last frame.
    /// As with a sync, a failure is never "no space": what was written before it would be written again.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.file.set_len(self.length).map_err(|error| not_full("cutting a segment", error))?;
        self.reserved = self.length;
        self.sync_file()
    }
}

fn not_full(what: &str, error: io::Error) -> io::Error {
    io::Error::other(format!("{what}: {error}"))
}

/// Removes segments, oldest first, so that a crash in between leaves no gap.
pub(crate) fn remove(disk: &dyn Disk, dir: &Path, sequences: &[u64]) -> io::Result<()> {
    for sequence in sequences {
        disk.remove_file(&path(dir, *sequence))?;
        disk.sync_dir(dir)?;
    }
    Ok(())
}
