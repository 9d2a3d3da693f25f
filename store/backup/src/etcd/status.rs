use super::{schema, EtcdFile};
use crate::{
    bbolt::{check, Value},
    BackupError,
};

/// What `snapshot status` says of a file; the same numbers as etcd's own tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotStatus {
    /// CRC-32C of all buckets' names, keys and values.
    pub hash: u32,
    /// Main revision of the last row.
    pub revision: i64,
    pub total_key: u64,
    /// Of the database, in bytes.
    pub total_size: u64,
}

/// Reads and checks all of a file. Blocks.
pub fn status(file: &EtcdFile) -> Result<SnapshotStatus, BackupError> {
    let checked = check(&file.bolt)?;
    let mut status = SnapshotStatus { total_size: checked.pages * file.bolt.page_bytes(), ..SnapshotStatus::default() };
    let mut buckets = file.bolt.root().cursor();
    while let Some(bucket) = buckets.next()? {
        status.hash = crc32c::crc32c_append(status.hash, &bucket.key);
        let Value::Bucket(inner) = bucket.value else {
            return Err(BackupError::damaged("a pair beside the buckets"));
        };
        let mut pairs = inner.cursor();
        while let Some(pair) = pairs.next()? {
            let Value::Bytes(value) = pair.value else { continue };
            status.hash = crc32c::crc32c_append(status.hash, &pair.key);
            status.hash = crc32c::crc32c_append(status.hash, &value);
            status.total_key += 1;
            if bucket.key == schema::KEY {
                status.revision = schema::parse_revision(&pair.key)?.0;
            }
        }
    }
    Ok(status)
}
