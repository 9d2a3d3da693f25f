//! Files in memory for tests.

use std::{io, sync::Arc};

use bytes::Bytes;
use keelstone_backup::{bbolt::Bolt, BackupError};
use keelstone_env::DiskFile;

/// A file that is bytes.
pub struct BytesFile(pub Bytes);

impl DiskFile for BytesFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = self.0.get(start..start.saturating_add(buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn open(file: Vec<u8>) -> Result<Bolt, BackupError> {
    let length = file.len() as u64;
    Bolt::open(Arc::new(BytesFile(file.into())), length)
}
