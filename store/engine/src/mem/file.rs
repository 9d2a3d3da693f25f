use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use keelstone_env::{Disk, DiskFile, OpenMode};

use super::{columns::Columns, frame};
use crate::{
    constants::{MEM_FILE_BYTES_MIN, MEM_FILE_GARBAGE_FACTOR},
    Column, EngineError,
};

/// First bytes of the file: name and version of the format.
const FORMAT: &[u8; 8] = b"KSMEM\0\0\x01";

/// The file of a memory engine: frames of batches, appended; rewritten as one frame when mostly garbage.
pub struct EngineFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Option<Box<dyn DiskFile>>,
    /// Length up to the last frame known to be whole.
    length: u64,
}

impl EngineFile {
    /// Opens or creates the file in `dir` and reads what it holds. A torn last frame is cut off.
    pub fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<(Self, Columns), EngineError> {
        disk.create_dir_all(&dir).map_err(EngineError::Io)?;
        if let Some(parent) = dir.parent() {
            disk.sync_dir(parent).map_err(EngineError::Io)?;
        }
        let path = dir.join("engine.mem");
        let mut this = Self { disk, path, file: None, length: 0 };
        let columns = if this.disk.exists(&this.path) { this.load()? } else { Columns::default() };
        // Also what was found whole: after a sync that failed the kernel may show bytes that the disk does not have.
        this.rewrite(&columns)?;
        Ok((this, columns))
    }

    fn load(&self) -> Result<Columns, EngineError> {
        let content = Bytes::from(self.disk.read(&self.path).map_err(EngineError::Io)?);
        if !content.starts_with(FORMAT) {
            return Err(EngineError::Corrupt(format!("{}: unknown format", self.path.display())));
        }
        let mut columns = Columns::default();
        let mut at = FORMAT.len();
        while at < content.len() {
            let rest = content.slice(at..);
            let Some((payload, length)) = frame::parse(&rest) else {
                self.check_torn(&rest, at)?;
                return Ok(columns);
            };
            columns.apply(&frame::decode_batch(payload)?);
            at += length;
        }
        Ok(columns)
    }

    /// A broken frame with nothing whole behind it is a flush that a crash cut short; anything else is damage.
    fn check_torn(&self, rest: &Bytes, at: usize) -> Result<(), EngineError> {
        if frame::any_after(rest) {
            return Err(EngineError::Corrupt(format!("{}: damaged frame at byte {at}", self.path.display())));
        }
        tracing::info!(path = %self.path.display(), at, bytes = rest.len(), "torn flush at the end of the engine file is cut");
        Ok(())
    }

    /// Makes `payload` durable behind what is there; `columns` is the state that it leads to.
    pub fn append(&mut self, payload: &[u8], columns: &Columns) -> Result<(), EngineError> {
        let limit = (columns.live_bytes * MEM_FILE_GARBAGE_FACTOR).max(MEM_FILE_BYTES_MIN);
        if self.file.is_none() || self.length + payload.len() as u64 > limit {
            return self.rewrite(columns);
        }
        let result = self.try_append(payload);
        if result.is_err() {
            // What is behind `length` is unknown now: the next flush replaces the file.
            self.file = None;
        }
        result.map_err(EngineError::Io)
    }

    fn try_append(&mut self, payload: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let mut framed = Vec::with_capacity(frame::HEADER_BYTES + payload.len());
        framed.extend_from_slice(&frame::header(payload));
        framed.extend_from_slice(payload);
        file.write_all_at(&framed, self.length)?;
        file.sync()?;
        self.length += framed.len() as u64;
        Ok(())
    }

    fn rewrite(&mut self, columns: &Columns) -> Result<(), EngineError> {
        let mut payload = Vec::new();
        for column in Column::ALL {
            for (key, value) in columns.map(column) {
                frame::encode_put(column, key, value, &mut payload);
            }
        }
        let mut content = FORMAT.to_vec();
        content.extend_from_slice(&frame::header(&payload));
        content.append(&mut payload);
        self.file = None;
        self.disk.write_atomically(&self.path, &content).map_err(EngineError::Io)?;
        self.file = Some(self.disk.open(&self.path, OpenMode::Write).map_err(EngineError::Io)?);
        self.length = content.len() as u64;
        Ok(())
    }

    pub fn length(&self) -> u64 {
        self.length
    }
}
