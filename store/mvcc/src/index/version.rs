use bytes::Bytes;
use prost::Message;

use crate::{
    record::{self, Revision},
    MvccError,
};

/// One version of a key; a deletion if `version` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    pub at: Revision,
    pub create: i64,
    pub version: i64,
    pub lease: i64,
    /// Length of the whole record, so that what an answer needs is known before it is read.
    pub bytes: u32,
}

impl Version {
    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    pub fn encode(&self) -> Bytes {
        record::encode(&VersionRecord {
            main: self.at.main,
            sub: self.at.sub,
            create: self.create,
            version: self.version,
            lease: self.lease,
            bytes: self.bytes,
        })
    }

    pub fn decode(record: &[u8]) -> Result<Self, MvccError> {
        let record =
            VersionRecord::decode(record).map_err(|error| MvccError::Corrupt(format!("version of a key: {error}")))?;
        Ok(Self {
            at: Revision { main: record.main, sub: record.sub },
            create: record.create,
            version: record.version,
            lease: record.lease,
            bytes: record.bytes,
        })
    }
}

/// What the index says about one version of a key.
#[derive(Clone, PartialEq, Message)]
struct VersionRecord {
    #[prost(int64, tag = "1")]
    main: i64,
    #[prost(uint32, tag = "2")]
    sub: u32,
    #[prost(int64, tag = "3")]
    create: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(int64, tag = "5")]
    lease: i64,
    #[prost(uint32, tag = "6")]
    bytes: u32,
}
