//! Log segments, format version 1. Numbers are little endian, checksums CRC-32C.
//!
//! | bytes | header |
//! |---|---|
//! | 7 | `KSBLOG\0` |
//! | 1 | version, 1 |
//! | 8 | id of the cluster that the changes are of |
//! | 8 | first revision: the frames follow on everything before it |
//! | 8 | when it was made, in milliseconds since 1970 |
//! | 4 | checksum of the 32 bytes above |
//! | 4 | 0 |
//!
//! | bytes | frame |
//! |---|---|
//! | 4 | `KSBF` |
//! | 4 | number of the frame in its segment, from 0 |
//! | 4 | length of the payload |
//! | 4 | checksum of number, length and payload |
//! | n | payload: [`Frame`], protobuf |
//!
//! Each frame is durable before the next one is written. So an invalid frame at the end of an open segment was
//! never complete and is cut; one with a valid frame behind it, or in a closed segment, is damage.

use std::{path::Path, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keelstone_env::{Disk, DiskFile, OpenMode};
use prost::Message;

use super::frame::Frame;
use crate::{
    constants::{COPY_BYTES, FRAME_BYTES_MAX},
    BackupError,
};

const MAGIC: &[u8; 7] = b"KSBLOG\0";
const VERSION: u8 = 1;
pub const HEADER_BYTES: usize = 40;
const FRAME_MAGIC: &[u8; 4] = b"KSBF";
const FRAME_HEADER_BYTES: usize = 16;

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub cluster_id: u64,
    pub first_revision: i64,
    pub unix_ms: u64,
}

impl SegmentHeader {
    fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES);
        out.put_slice(MAGIC);
        out.put_u8(VERSION);
        out.put_u64_le(self.cluster_id);
        out.put_i64_le(self.first_revision);
        out.put_u64_le(self.unix_ms);
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.put_u32_le(0);
        out.freeze()
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BackupError> {
        let (checked, mut crc) = bytes.split_at(HEADER_BYTES - 8);
        let mut rest = checked;
        if &rest[..MAGIC.len()] != MAGIC {
            return Err(BackupError::damaged("byte 0: it is no log segment"));
        }
        rest.advance(MAGIC.len());
        if crc.get_u32_le() != crc32c::crc32c(checked) {
            return Err(BackupError::damaged("byte 0: the header's checksum does not match"));
        }
        let version = rest.get_u8();
        if version != VERSION {
            return Err(BackupError::refused(format!("log segments of version {version} are not known")));
        }
        let cluster_id = rest.get_u64_le();
        Ok(Self { cluster_id, first_revision: rest.get_i64_le(), unix_ms: rest.get_u64_le() })
    }
}

/// Appends frames to an open segment. All calls block.
pub struct SegmentWriter {
    file: Box<dyn DiskFile>,
    header: SegmentHeader,
    length: u64,
    frames: u32,
}

impl SegmentWriter {
    /// Makes a segment; durable, name included, on return.
    pub fn create(disk: &dyn Disk, path: &Path, header: SegmentHeader) -> Result<Self, BackupError> {
        let mut file = disk.open(path, OpenMode::Truncate).map_err(BackupError::at(path))?;
        file.write_all_at(&header.encode(), 0).map_err(BackupError::at(path))?;
        file.sync().map_err(BackupError::at(path))?;
        if let Some(dir) = path.parent() {
            disk.sync_dir(dir).map_err(BackupError::at(dir))?;
        }
        Ok(Self { file, header, length: HEADER_BYTES as u64, frames: 0 })
    }

    /// Opens a segment to go on with; `each` is given its frames. A torn end is cut.
    pub fn resume(disk: &dyn Disk, path: &Path, mut each: impl FnMut(Frame)) -> Result<Self, BackupError> {
        let mut reader = SegmentReader::open(disk, path, true)?;
        while let Some(frame) = reader.next()? {
            each(frame);
        }
        let mut file = disk.open(path, OpenMode::Write).map_err(BackupError::at(path))?;
        if file.len()? > reader.offset {
            tracing::info!(segment = %path.display(), offset = reader.offset, "the torn end of a backup's log is cut");
            file.set_len(reader.offset)?;
        }
        file.sync()?;
        Ok(Self { file, header: reader.header, length: reader.offset, frames: reader.frames })
    }

    pub fn header(&self) -> SegmentHeader {
        self.header
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds a frame; durable on return. After an error the segment must be resumed anew.
    pub fn append(&mut self, frame: &Frame) -> Result<(), BackupError> {
        let payload = frame.encode_bytes();
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= FRAME_BYTES_MAX);
        let length = length.ok_or_else(|| BackupError::refused("a revision is too large for a backup"))?;
        let mut out = BytesMut::with_capacity(FRAME_HEADER_BYTES + payload.len());
        out.put_slice(FRAME_MAGIC);
        out.put_u32_le(self.frames);
        out.put_u32_le(length);
        out.put_u32_le(frame_crc(self.frames, length, &payload));
        out.put_slice(&payload);
        self.file.write_all_at(&out, self.length)?;
        self.file.sync()?;
        self.length += out.len() as u64;
        self.frames += 1;
        Ok(())
    }
}

fn frame_crc(number: u32, length: u32, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&number.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &length.to_le_bytes()), payload)
}

/// Reads a segment frame by frame. All calls block.
pub struct SegmentReader {
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    length: u64,
    /// Where the next frame begins.
    offset: u64,
    frames: u32,
    /// Whether the end may be torn.
    is_open: bool,
    sealed: bool,
    through: i64,
}

impl SegmentReader {
    /// `is_open`: the segment may still be written, so that its end may be incomplete.
    pub fn open(disk: &dyn Disk, path: &Path, is_open: bool) -> Result<Self, BackupError> {
        let file = disk.open(path, OpenMode::Read).map_err(BackupError::at(path))?;
        Self::from_file(Arc::from(file), is_open)
    }

    pub fn from_file(file: Arc<dyn DiskFile>, is_open: bool) -> Result<Self, BackupError> {
        let length = file.len()?;
        let mut header = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 {
            return Err(BackupError::damaged(format!("byte {length}: the header is not whole")));
        }
        file.read_exact_at(&mut header, 0)?;
        let header = SegmentHeader::decode(&header)?;
        let through = header.first_revision.saturating_sub(1);
        let offset = HEADER_BYTES as u64;
        Ok(Self { file, header, length, offset, frames: 0, is_open, sealed: false, through })
    }

    pub fn header(&self) -> SegmentHeader {
        self.header
    }

    /// Whether the last frame that was read closes the segment.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// If bytes are damaged, frames contradict each other, or a closed segment does not end as one.
    #[allow(clippy::should_implement_trait)] // as the other readers here
    pub fn next(&mut self) -> Result<Option<Frame>, BackupError> {
        if self.offset == self.length {
            return if self.is_open || self.sealed { Ok(None) } else { Err(self.damaged("it ends too early")) };
        }
        let Some((frame, end)) = self.frame_at(self.offset, Some(self.frames))? else {
            if self.is_open && !self.any_frame_after(self.offset)? {
                return Ok(None);
            }
            return Err(self.damaged("a frame is damaged"));
        };
        if self.sealed {
            return Err(self.damaged("frames after the last one"));
        }
        self.check(&frame)?;
        (self.offset, self.frames) = (end, self.frames + 1);
        (self.sealed, self.through) = (frame.sealed, frame.through);
        Ok(Some(frame))
    }

    /// Changes follow what the frames before said was complete.
    fn check(&self, frame: &Frame) -> Result<(), BackupError> {
        let mut last = (self.through, u32::MAX);
        for change in &frame.changes {
            let at = (change.main, change.sub);
            if at <= last || change.main > frame.through || change.kv.as_ref().is_none_or(|kv| kv.key.is_empty()) {
                return Err(self.damaged("changes that do not follow each other"));
            }
            last = at;
        }
        if frame.through < self.through {
            return Err(self.damaged("revisions that go back"));
        }
        Ok(())
    }

    /// The whole frame at `offset` and where it ends; `None` if there is none.
    fn frame_at(&self, offset: u64, number: Option<u32>) -> Result<Option<(Frame, u64)>, BackupError> {
        if self.length - offset < FRAME_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut header = [0; FRAME_HEADER_BYTES];
        self.file.read_exact_at(&mut header, offset)?;
        let mut rest = &header[..];
        if &rest[..4] != FRAME_MAGIC {
            return Ok(None);
        }
        rest.advance(4);
        let (found, length, crc) = (rest.get_u32_le(), rest.get_u32_le(), rest.get_u32_le());
        let start = offset + FRAME_HEADER_BYTES as u64;
        let end = start + u64::from(length);
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if end > self.length || bytes > FRAME_BYTES_MAX || number.is_some_and(|number| number != found) {
            return Ok(None);
        }
        let mut payload = vec![0; bytes];
        self.file.read_exact_at(&mut payload, start)?;
        if crc != frame_crc(found, length, &payload) {
            return Ok(None);
        }
        Ok(Frame::decode(Bytes::from(payload)).ok().map(|frame| (frame, end)))
    }

    /// Whether a whole frame begins anywhere after `offset`.
    fn any_frame_after(&self, offset: u64) -> Result<bool, BackupError> {
        let mut window = vec![0; COPY_BYTES];
        let mut at = offset + 1;
        while at < self.length {
            let bytes = usize::try_from(self.length - at).unwrap_or(usize::MAX).min(COPY_BYTES);
            self.file.read_exact_at(&mut window[..bytes], at)?;
            for found in window[..bytes].windows(4).enumerate().filter(|(_, w)| w == FRAME_MAGIC).map(|(i, _)| i) {
                if self.frame_at(at + found as u64, None)?.is_some() {
                    return Ok(true);
                }
            }
            // The next window overlaps by what a magic number split between two would need.
            at += if bytes < COPY_BYTES { bytes } else { bytes - 3 } as u64;
        }
        Ok(false)
    }

    fn damaged(&self, what: &str) -> BackupError {
        BackupError::damaged(format!("byte {}: {what}", self.offset))
    }
}
