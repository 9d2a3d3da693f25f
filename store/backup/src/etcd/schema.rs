//! Names and encodings of etcd's buckets.

use bytes::{BufMut, Bytes, BytesMut};
use keelstone_etcd_api::mvccpb;
use keelstone_mvcc::Row;
use prost::Message;

use crate::BackupError;

pub const ALARM: &str = "alarm";
pub const AUTH: &str = "auth";
pub const AUTH_ROLES: &str = "authRoles";
pub const AUTH_USERS: &str = "authUsers";
pub const CLUSTER: &str = "cluster";
pub const KEY: &str = "key";
pub const LEASE: &str = "lease";
pub const MEMBERS: &str = "members";
pub const MEMBERS_REMOVED: &str = "members_removed";
pub const META: &str = "meta";

pub const CONSISTENT_INDEX: &str = "consistent_index";
pub const TERM: &str = "term";
pub const CONF_STATE: &str = "confState";
pub const SCHEDULED_COMPACT: &str = "scheduledCompactRev";
pub const FINISHED_COMPACT: &str = "finishedCompactRev";
pub const AUTH_ENABLED: &str = "authEnabled";
pub const AUTH_REVISION: &str = "authRevision";
pub const CLUSTER_VERSION: &str = "clusterVersion";

const REVISION_BYTES: usize = 17;
const DELETION_MARK: u8 = b't';

/// The value in `lease`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct LeaseValue {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub ttl_s: i64,
    #[prost(int64, tag = "3")]
    pub remaining_s: i64,
}

/// A revision as `meta` has it, and as the keys of `key` begin.
pub fn revision_bytes(main: i64, sub: u32) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(REVISION_BYTES + 1);
    bytes.put_i64(main);
    bytes.put_u8(b'_');
    bytes.put_i64(i64::from(sub));
    bytes
}

/// Main and sub revision, and whether it is marked as a deletion.
pub fn parse_revision(bytes: &[u8]) -> Result<(i64, u32, bool), BackupError> {
    let wrong = || BackupError::damaged(format!("{bytes:02x?} is no revision"));
    let (revision, mark) = bytes.split_at_checked(REVISION_BYTES).ok_or_else(wrong)?;
    let main = revision[..8].try_into().map(i64::from_be_bytes).map_err(|_| wrong())?;
    let sub = revision[9..].try_into().map(i64::from_be_bytes).map_err(|_| wrong())?;
    let sub = u32::try_from(sub).map_err(|_| wrong())?;
    if main < 0 || revision[8] != b'_' || !matches!(mark, [] | [DELETION_MARK]) {
        return Err(wrong());
    }
    Ok((main, sub, !mark.is_empty()))
}

/// A row of `key`.
pub fn row_out(row: &Row) -> (Bytes, Bytes) {
    let mut key = revision_bytes(row.main, row.sub);
    if !row.is_deletion() {
        return (key.freeze(), row.kv.encode_to_vec().into());
    }
    key.put_u8(DELETION_MARK);
    let kv = mvccpb::KeyValue { key: row.kv.key.clone(), ..Default::default() };
    (key.freeze(), kv.encode_to_vec().into())
}

/// The row that stands for a revision without a change.
pub fn skipped_revision(main: i64) -> (Bytes, Bytes) {
    (revision_bytes(main, 0).freeze(), Bytes::new())
}

/// A row of `key`; `None` for a skipped revision.
pub fn row_in(key: &[u8], value: Bytes) -> Result<Option<Row>, BackupError> {
    let (main, sub, deleted) = parse_revision(key)?;
    let wrong = |what: String| BackupError::damaged(format!("the key-value at revision {main}.{sub}: {what}"));
    let mut kv = mvccpb::KeyValue::decode(value).map_err(|error| wrong(error.to_string()))?;
    if kv.key.is_empty() {
        return Ok(None);
    }
    if deleted {
        kv = mvccpb::KeyValue { key: kv.key, ..Default::default() };
    } else if kv.mod_revision != main || kv.version < 1 || kv.create_revision < 1 || kv.create_revision > main {
        return Err(wrong("its revisions do not belong there".into()));
    }
    kv.mod_revision = main;
    Ok(Some(Row { main, sub, kv }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back() {
        let put = mvccpb::KeyValue {
            key: "k".into(),
            value: "v".into(),
            create_revision: 3,
            mod_revision: 9,
            version: 2,
            lease: 5,
        };
        let deletion = mvccpb::KeyValue { key: "k".into(), mod_revision: 9, ..Default::default() };
        for (kv, length) in [(put, 17), (deletion, 18)] {
            let row = Row { main: 9, sub: 4, kv };
            let (key, value) = row_out(&row);
            assert_eq!(key.len(), length);
            assert_eq!(row_in(&key, value).unwrap(), Some(row));
        }
        let (key, value) = skipped_revision(7);
        assert_eq!(row_in(&key, value).unwrap(), None);
    }

    #[test]
    fn strange_revisions_are_refused() {
        let good = revision_bytes(1, 0).freeze();
        assert_eq!(parse_revision(&good).unwrap(), (1, 0, false));
        assert!(parse_revision(&good[..16]).is_err());
        assert!(parse_revision(&[&good[..], b"x"].concat()).is_err());
        assert!(parse_revision(&[&good[..], b"tt"].concat()).is_err());
        assert!(parse_revision(&[0xff; 17]).is_err());
    }
}
