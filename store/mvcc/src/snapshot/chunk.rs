use bytes::{BufMut, Bytes, BytesMut};
use keelstone_engine::Column;
use prost::Message;

use crate::{
    record::{self, StateRecord, DATA_COLUMNS},
    MvccError,
};

/// A piece of a snapshot. On the wire: CRC-32C of the rest (little endian), then this message.
#[derive(Clone, PartialEq, Message)]
pub struct Chunk {
    #[prost(uint32, tag = "1")]
    pub format_version: u32,
    /// 0, 1, 2, ...
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// In the first chunk only. Its generation means nothing to the receiver.
    #[prost(message, optional, tag = "3")]
    pub state: Option<StateRecord>,
    #[prost(message, repeated, tag = "4")]
    pub pairs: Vec<Pair>,
    /// True in the last chunk only.
    #[prost(bool, tag = "5")]
    pub last: bool,
}

/// A key, without its generation, and its value.
#[derive(Clone, PartialEq, Message)]
pub struct Pair {
    /// Position in [`DATA_COLUMNS`].
    #[prost(uint32, tag = "1")]
    pub column: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub value: Bytes,
}

impl Pair {
    pub fn column(&self) -> Result<Column, MvccError> {
        let column = usize::try_from(self.column).ok().and_then(|column| DATA_COLUMNS.get(column));
        column.copied().ok_or_else(|| MvccError::Snapshot(format!("unknown column {}", self.column)))
    }
}

const CRC_BYTES: usize = 4;

impl Chunk {
    pub fn encode_checked(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(CRC_BYTES + self.encoded_len());
        buffer.put_u32_le(0);
        // A `BytesMut` grows: encoding cannot fail.
        let _ = self.encode(&mut buffer);
        let crc = crc32c::crc32c(&buffer[CRC_BYTES..]);
        buffer[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        buffer.freeze()
    }

    pub fn decode_checked(chunk: &Bytes) -> Result<Self, MvccError> {
        let invalid = |what: String| MvccError::Snapshot(what);
        let Some((crc, _)) = chunk.split_at_checked(CRC_BYTES) else {
            return Err(invalid(format!("chunk of {} bytes", chunk.len())));
        };
        let message = chunk.slice(CRC_BYTES..);
        if crc != crc32c::crc32c(&message).to_le_bytes() {
            return Err(invalid("chunk checksum does not match".to_owned()));
        }
        let chunk = Self::decode(message).map_err(|error| invalid(error.to_string()))?;
        if !record::is_known_version(chunk.format_version) {
            return Err(invalid(format!("chunk has unknown version {}", chunk.format_version)));
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// A checksum says nothing about who made it.
        #[test]
        fn any_bytes_with_a_right_checksum_are_read_or_refused(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..256),
        ) {
            let checked = [&crc32c::crc32c(&bytes).to_le_bytes()[..], &bytes[..]].concat();
            if let Ok(chunk) = Chunk::decode_checked(&Bytes::from(checked)) {
                chunk.pairs.iter().for_each(|pair| drop(pair.column()));
            }
        }
    }
}
