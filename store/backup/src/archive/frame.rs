use bytes::Bytes;
use keelstone_etcd_api::mvccpb;
use keelstone_mvcc::{AuthContent, Row};
use prost::Message;

/// What was known at one moment. Fields keep their numbers for ever.
#[derive(Clone, PartialEq, Message)]
pub struct Frame {
    /// Every revision up to here is in this frame or an earlier one.
    #[prost(int64, tag = "1")]
    pub through: i64,
    /// When that was known, by the backup's clock, in milliseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub unix_ms: u64,
    #[prost(message, repeated, tag = "3")]
    pub changes: Vec<Change>,
    /// Leases that were not known before.
    #[prost(message, repeated, tag = "4")]
    pub leases: Vec<LeaseMark>,
    /// Leases that are no more.
    #[prost(int64, repeated, tag = "5")]
    pub leases_gone: Vec<i64>,
    /// The segment's last frame.
    #[prost(bool, tag = "6")]
    pub sealed: bool,
    /// Users and roles, if they have changed since the last time that they were said.
    #[prost(message, optional, tag = "7")]
    pub auth: Option<AuthContent>,
}

/// One change of a key; a deletion has version 0.
#[derive(Clone, PartialEq, Message)]
pub struct Change {
    #[prost(int64, tag = "1")]
    pub main: i64,
    #[prost(uint32, tag = "2")]
    pub sub: u32,
    #[prost(message, optional, tag = "3")]
    pub kv: Option<mvccpb::KeyValue>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LeaseMark {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub ttl_s: i64,
}

impl Change {
    pub fn into_row(self) -> Row {
        Row { main: self.main, sub: self.sub, kv: self.kv.unwrap_or_default() }
    }
}

impl Frame {
    pub fn encode_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }
}
