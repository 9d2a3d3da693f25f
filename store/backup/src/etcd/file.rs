use std::{path::Path, sync::Arc};

use bytes::Bytes;
use keelstone_env::{Disk, DiskFile, OpenMode};
use keelstone_etcd_api::{authpb, pb};
use keelstone_mvcc::{AuthContent, LeaseInfo, Row};
use prost::Message;
use sha2::{Digest, Sha256};

use super::schema;
use crate::{
    bbolt::{Bolt, Bucket, Cursor, Value},
    constants::COPY_BYTES,
    BackupError,
};

/// A snapshot file (or a bare database) of etcd 3.4 or later, or of this store.
pub struct EtcdFile {
    pub bolt: Bolt,
    key: Option<Bucket>,
    /// SHA-256 of the database.
    pub digest: [u8; 32],
    /// Whether the file ended in that sum.
    pub has_checksum: bool,
    pub file_bytes: u64,
}

/// What a snapshot file holds beside the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EtcdHead {
    pub revision: i64,
    /// -1 if nothing was compacted.
    pub compacted: i64,
    pub consistent_index: u64,
    pub term: u64,
    /// By id.
    pub leases: Vec<LeaseInfo>,
    pub alarms: Vec<pb::AlarmMember>,
    pub auth: AuthContent,
    pub cluster_version: String,
}

const DIGEST_BYTES: u64 = 32;
/// etcd's rule: a database is whole pages, so that this much beyond is a checksum.
const SECTOR_BYTES: u64 = 512;

impl EtcdFile {
    /// Opens a file and compares its checksum; reads all of it once. Blocks.
    ///
    /// # Errors
    /// If the checksum is wrong or the file is no database. A file without a checksum (a copied database) is
    /// refused unless `skip_hash_check`.
    pub fn open(disk: &dyn Disk, path: &Path, skip_hash_check: bool) -> Result<Self, BackupError> {
        let file = disk.open(path, OpenMode::Read).map_err(BackupError::at(path))?;
        Self::from_file(Arc::from(file), skip_hash_check)
    }

    /// As [`EtcdFile::open`].
    pub fn from_file(file: Arc<dyn DiskFile>, skip_hash_check: bool) -> Result<Self, BackupError> {
        let file_bytes = file.len()?;
        let has_checksum = file_bytes % SECTOR_BYTES == DIGEST_BYTES;
        let database_bytes = if has_checksum { file_bytes - DIGEST_BYTES } else { file_bytes };
        let digest = digest(&*file, database_bytes)?;
        if has_checksum {
            let mut said = [0; DIGEST_BYTES as usize];
            file.read_exact_at(&mut said, database_bytes)?;
            if said != digest && !skip_hash_check {
                return Err(BackupError::damaged("the snapshot's SHA-256 does not match its content"));
            }
        } else if !skip_hash_check {
            return Err(BackupError::refused("the file has no checksum: it is no snapshot, or it was cut off"));
        }
        let bolt = Bolt::open(file, database_bytes)?;
        let key = bolt.root().bucket(schema::KEY.as_bytes())?;
        Ok(Self { bolt, key, digest, has_checksum, file_bytes })
    }

    /// All rows, in the order of their revisions.
    pub fn rows(&self) -> EtcdRows {
        EtcdRows { cursor: self.key.as_ref().map(Bucket::cursor) }
    }

    /// Everything but the rows.
    pub fn head(&self) -> Result<EtcdHead, BackupError> {
        let mut head = EtcdHead { compacted: -1, ..EtcdHead::default() };
        self.meta(&mut head)?;
        self.pairs(schema::LEASE, |_, value| {
            let lease = decode::<schema::LeaseValue>("a lease", value)?;
            if lease.id == 0 || lease.ttl_s < 1 {
                return Err(BackupError::damaged(format!("lease {:x} of {} s", lease.id, lease.ttl_s)));
            }
            head.leases.push(LeaseInfo { id: lease.id, ttl_s: lease.ttl_s });
            Ok(())
        })?;
        self.pairs(schema::ALARM, |key, _| {
            head.alarms.push(decode("an alarm", key)?);
            Ok(())
        })?;
        self.pairs(schema::CLUSTER, |key, value| {
            if key == schema::CLUSTER_VERSION {
                head.cluster_version = String::from_utf8_lossy(&value).into_owned();
            }
            Ok(())
        })?;
        self.auth(&mut head.auth)?;
        let last = match &self.key {
            Some(key) => key.last()?,
            None => None,
        };
        let last = last.map(|row| schema::parse_revision(&row.key)).transpose()?;
        head.revision = last.map_or(0, |(main, ..)| main).max(head.compacted).max(1);
        Ok(head)
    }

    fn meta(&self, head: &mut EtcdHead) -> Result<(), BackupError> {
        self.pairs(schema::META, |key, value| {
            if key == schema::CONSISTENT_INDEX {
                head.consistent_index = number("the consistent index", &value)?;
            } else if key == schema::TERM {
                head.term = number("the term", &value)?;
            } else if key == schema::SCHEDULED_COMPACT || key == schema::FINISHED_COMPACT {
                // One that was scheduled and not finished counts: nobody could read before it any more.
                head.compacted = head.compacted.max(schema::parse_revision(&value)?.0);
            }
            Ok(())
        })
    }

    fn auth(&self, auth: &mut AuthContent) -> Result<(), BackupError> {
        self.pairs(schema::AUTH, |key, value| {
            if key == schema::AUTH_ENABLED {
                auth.enabled = value[..] == [1];
            } else if key == schema::AUTH_REVISION {
                auth.revision = number("the revision of users and roles", &value)?;
            }
            Ok(())
        })?;
        self.pairs(schema::AUTH_USERS, |_, value| {
            auth.users.push(decode::<authpb::User>("a user", value)?);
            Ok(())
        })?;
        self.pairs(schema::AUTH_ROLES, |_, value| {
            auth.roles.push(decode::<authpb::Role>("a role", value)?);
            Ok(())
        })
    }

    /// Walks the pairs of a bucket, which may be missing.
    fn pairs(
        &self,
        bucket: &str,
        mut each: impl FnMut(Bytes, Bytes) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        let Some(bucket) = self.bolt.root().bucket(bucket.as_bytes())? else { return Ok(()) };
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next()? {
            if let Value::Bytes(value) = item.value {
                // Copies: slices would keep whole pages.
                each(Bytes::copy_from_slice(&item.key), Bytes::copy_from_slice(&value))?;
            }
        }
        Ok(())
    }
}

/// The rows of a file, one by one.
pub struct EtcdRows {
    cursor: Option<Cursor>,
}

impl EtcdRows {
    /// The next row; `None` after the last.
    #[allow(clippy::should_implement_trait)] // as bbolt's cursor
    pub fn next(&mut self) -> Result<Option<Row>, BackupError> {
        let Some(cursor) = &mut self.cursor else { return Ok(None) };
        while let Some(item) = cursor.next()? {
            let Value::Bytes(value) = item.value else {
                return Err(BackupError::damaged("a bucket among the key-values"));
            };
            if let Some(row) = schema::row_in(&item.key, value)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

fn decode<M: Message + Default>(what: &str, bytes: Bytes) -> Result<M, BackupError> {
    M::decode(bytes).map_err(|error| BackupError::damaged(format!("{what}: {error}")))
}

fn number(what: &str, bytes: &[u8]) -> Result<u64, BackupError> {
    let number = bytes.try_into().map(u64::from_be_bytes);
    number.map_err(|_| BackupError::damaged(format!("{what} has {} bytes", bytes.len())))
}

fn digest(file: &dyn DiskFile, length: u64) -> Result<[u8; 32], BackupError> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    while at < length {
        let step = usize::try_from(length - at).unwrap_or(usize::MAX).min(COPY_BYTES);
        file.read_exact_at(&mut buffer[..step], at)?;
        digest.update(&buffer[..step]);
        at += step as u64;
    }
    Ok(digest.finalize().into())
}
