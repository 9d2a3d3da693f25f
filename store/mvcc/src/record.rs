//! Keys and values as they are in the engine. Data keys begin with a generation byte: a snapshot is
//! installed as the other generation, beside the current one.

use bytes::{BufMut, Bytes, BytesMut};
use keelstone_engine::Column;
use keelstone_etcd_api::mvccpb;
use prost::Message;

use crate::MvccError;

/// [`Column::Meta`]: the [`StateRecord`].
pub const STATE_KEY: &[u8] = b"state";
/// [`Column::Meta`]: the compaction revision (big endian) up to which all dead versions are removed.
pub const SWEPT_KEY: &[u8] = b"swept";
/// Columns whose keys begin with a generation. Their positions are part of the snapshot format.
pub const DATA_COLUMNS: [Column; 4] = [Column::Revisions, Column::Leases, Column::Auth, Column::Index];
/// Version of the formats in this file and of snapshot chunks.
pub const FORMAT_VERSION: u32 = 2;
/// Version 1 had no index: it is built when the data is taken over.
pub const FORMAT_VERSION_WITHOUT_INDEX: u32 = 1;

/// A place in history: `sub` counts the changes of one main revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision {
    pub main: i64,
    pub sub: u32,
}

const REVISION_KEY_BYTES: usize = 13;

/// [`Column::Revisions`]: key of the key-value that was written at `at`.
pub fn revision_key(generation: u8, at: Revision) -> Bytes {
    let mut key = BytesMut::with_capacity(REVISION_KEY_BYTES);
    key.put_u8(generation);
    key.put_i64(at.main);
    key.put_u32(at.sub);
    key.freeze()
}

pub fn parse_revision_key(key: &[u8]) -> Result<Revision, MvccError> {
    let Ok(key) = <&[u8; REVISION_KEY_BYTES]>::try_from(key) else {
        return Err(MvccError::Corrupt(format!("revision key of {} bytes", key.len())));
    };
    let (mut main, mut sub) = ([0; 8], [0; 4]);
    main.copy_from_slice(&key[1..9]);
    sub.copy_from_slice(&key[9..]);
    Ok(Revision { main: i64::from_be_bytes(main), sub: u32::from_be_bytes(sub) })
}

/// The value in [`Column::Revisions`] is the wire form of a `KeyValue`; `version` 0 is a deletion.
pub fn decode_kv(record: Bytes) -> Result<mvccpb::KeyValue, MvccError> {
    mvccpb::KeyValue::decode(record).map_err(|error| MvccError::Corrupt(format!("key-value: {error}")))
}

/// Reads a record that this crate wrote.
pub fn decode<M: Message + Default>(record: Bytes) -> Result<M, MvccError> {
    M::decode(record).map_err(|error| MvccError::Corrupt(format!("record: {error}")))
}

pub fn encode<M: Message>(message: &M) -> Bytes {
    let mut buffer = BytesMut::with_capacity(message.encoded_len());
    // A `BytesMut` grows: encoding cannot fail.
    let _ = message.encode(&mut buffer);
    buffer.freeze()
}

pub fn lease_key(generation: u8, id: i64) -> Bytes {
    let mut key = BytesMut::with_capacity(9);
    key.put_u8(generation);
    key.put_i64(id);
    key.freeze()
}

/// Start and end of a generation's keys in any data column.
pub fn generation_bounds(generation: u8) -> (Bytes, Bytes) {
    (Bytes::copy_from_slice(&[generation]), Bytes::copy_from_slice(&[generation + 1]))
}

/// The other generation.
pub fn other_generation(generation: u8) -> u8 {
    generation ^ 1
}

/// What every batch writes along with its data.
#[derive(Clone, PartialEq, Message)]
pub struct StateRecord {
    #[prost(uint32, tag = "1")]
    pub format_version: u32,
    #[prost(uint32, tag = "2")]
    pub generation: u32,
    /// The applied index plus one; 0 if nothing was applied.
    #[prost(uint64, tag = "3")]
    pub applied_next: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub log_id: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub membership: Bytes,
    #[prost(int64, tag = "6")]
    pub revision: i64,
    /// -1 if nothing was compacted.
    #[prost(sint64, tag = "7")]
    pub compacted: i64,
    /// Hash of all effects so far.
    #[prost(fixed64, tag = "8")]
    pub hash: u64,
    /// In a snapshot only: all dead versions before this revision are removed.
    #[prost(int64, tag = "9")]
    pub swept: i64,
}

pub fn is_known_version(version: u32) -> bool {
    (FORMAT_VERSION_WITHOUT_INDEX..=FORMAT_VERSION).contains(&version)
}

impl StateRecord {
    pub fn decode_checked(record: Bytes) -> Result<Self, MvccError> {
        let state = Self::decode(record).map_err(|error| MvccError::Corrupt(format!("state record: {error}")))?;
        if !is_known_version(state.format_version) {
            return Err(MvccError::Corrupt(format!("state record has unknown version {}", state.format_version)));
        }
        if state.generation > 1 || state.revision < 1 || state.compacted > state.revision {
            return Err(MvccError::Corrupt("state record makes no sense".to_owned()));
        }
        Ok(state)
    }
}

/// The value in [`Column::Leases`].
#[derive(Clone, PartialEq, Message)]
pub struct LeaseRecord {
    #[prost(int64, tag = "1")]
    pub ttl_s: i64,
}
