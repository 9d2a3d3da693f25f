use bytes::Bytes;

use crate::{Applied, MvccError};

/// A consistent view of the whole state, as it was when it was pinned.
pub struct Pinned {}

impl Pinned {
    /// How far the log was applied in this view.
    pub fn applied(&self) -> Applied {
        Applied::default()
    }

    pub fn revision(&self) -> i64 {
        0
    }

    /// The next chunk (versioned, checksummed, about 1 MiB); `None` after the last. Blocks.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, MvccError> {
        Ok(None)
    }
}
