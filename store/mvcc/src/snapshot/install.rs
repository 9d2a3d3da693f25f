use bytes::Bytes;

use crate::{Applied, MvccError};

/// Takes a snapshot's chunks. Until [`Installer::finish`] returns, and after a crash before that, the old
/// state stays as it was.
pub struct Installer {}

impl Installer {
    /// Takes the next chunk, in the order of [`Pinned::next_chunk`](super::Pinned::next_chunk). Blocks.
    pub fn chunk(&mut self, chunk: Bytes) -> Result<(), MvccError> {
        drop(chunk);
        Ok(())
    }

    /// Replaces the state in one durable step. `applied` is what the snapshot's metadata says; it must agree
    /// with what the chunks say. Blocks.
    pub fn finish(self, applied: Applied) -> Result<(), MvccError> {
        drop(applied);
        Ok(())
    }
}
