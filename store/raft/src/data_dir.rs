//! Whose data a folder holds: the file `member`, and the lock that one process at a time has.

use std::{io, path::Path, path::PathBuf, time::Duration};

use bytes::Bytes;
use keelstone_env::{DiskLock, Env};
use prost::Message;

use crate::{constants::DATA_LOCK_TIME_MAX, RaftError};

const FILE: &str = "member";
const LOCK: &str = "lock";
const VERSION: u32 = 1;
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What the file says: CRC-32C of the rest (4 bytes, little endian), then this message.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DataOwner {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(fixed64, tag = "2")]
    pub cluster_id: u64,
    #[prost(fixed64, tag = "3")]
    pub member_id: u64,
    /// The cluster has removed this member: its data is of no use but to be looked at.
    #[prost(bool, tag = "4")]
    pub removed: bool,
}

impl DataOwner {
    pub fn new(cluster_id: u64, member_id: u64) -> Self {
        Self { version: VERSION, cluster_id, member_id, removed: false }
    }

    /// The same after the cluster has removed it.
    pub(crate) fn removed(self) -> Self {
        Self { removed: true, ..self }
    }

    /// Reads whose data lies in `data_dir`; `None` if it was never used. Blocks.
    ///
    /// # Errors
    /// If the file is damaged or of an unknown version.
    pub fn read(env: &Env, data_dir: &Path) -> Result<Option<Self>, RaftError> {
        let path = data_dir.join(FILE);
        if !env.disk().exists(&path) {
            return Ok(None);
        }
        let damaged = |what: &str| RaftError::Fatal(format!("{} {what}", path.display()));
        let content = Bytes::from(env.disk().read(&path)?);
        let Some((sum, body)) = content.split_at_checked(4) else { return Err(damaged("is too short")) };
        if crc32c::crc32c(body).to_le_bytes() != *sum {
            return Err(damaged("is damaged: its checksum is wrong"));
        }
        let owner = Self::decode(body).map_err(|_| damaged("cannot be read"))?;
        if owner.version != VERSION {
            return Err(damaged(&format!("has the unknown version {}", owner.version)));
        }
        Ok(Some(owner))
    }

    /// Writes it, durably. Blocks.
    pub fn write(&self, env: &Env, data_dir: &Path) -> io::Result<()> {
        let body = self.encode_to_vec();
        let mut content = crc32c::crc32c(&body).to_le_bytes().to_vec();
        content.extend(body);
        env.disk().write_atomically(&data_dir.join(FILE), &content)
    }

    /// Writes this owner into a folder that has none.
    ///
    /// # Errors
    /// If the folder is another member's, or this member was removed.
    pub(crate) fn claim(self, env: &Env, data_dir: &Path) -> Result<(), RaftError> {
        let Some(found) = Self::read(env, data_dir)? else { return Ok(self.write(env, data_dir)?) };
        let whose = format!("{} holds the data of member {:x}", data_dir.display(), found.member_id);
        if found.removed {
            return Err(RaftError::Fatal(format!(
                "{whose}, which was removed from cluster {:x}; to take part again it needs an empty folder and \
                 must be added as a new member",
                found.cluster_id
            )));
        }
        if (found.cluster_id, found.member_id) != (self.cluster_id, self.member_id) {
            return Err(RaftError::Fatal(format!(
                "{whose} of cluster {:x}, not of member {:x} of cluster {:x}",
                found.cluster_id, self.member_id, self.cluster_id
            )));
        }
        Ok(())
    }
}

/// Takes the folder for this process, making it if it is missing.
///
/// # Errors
/// If another holder does not let go within [`DATA_LOCK_TIME_MAX`].
pub async fn lock_data_dir(env: &Env, data_dir: &Path) -> Result<DiskLock, RaftError> {
    let (disk, dir) = (env.clone(), data_dir.to_owned());
    env.offload(move || disk.disk().create_dir_all(&dir)).await?;
    let path: PathBuf = data_dir.join(LOCK);
    let deadline = env.now() + DATA_LOCK_TIME_MAX;
    loop {
        match env.disk().lock(&path) {
            Ok(lock) => return Ok(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && env.now() < deadline => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(RaftError::Fatal(format!("another process uses the data in {}", data_dir.display())));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_only_its_own_member() {
        let (env, dir) = (Env::os(), tempfile::tempdir().unwrap());
        let lock = lock_data_dir(&env, dir.path()).await.unwrap();
        let refused = lock_data_dir(&env, dir.path()).await.unwrap_err();
        assert!(refused.to_string().contains("another process"), "{refused}");
        drop(lock);
        let _lock = lock_data_dir(&env, dir.path()).await.unwrap();

        assert_eq!(DataOwner::read(&env, dir.path()).unwrap(), None);
        DataOwner::new(7, 1).claim(&env, dir.path()).unwrap();
        DataOwner::new(7, 1).claim(&env, dir.path()).unwrap();
        let other = DataOwner::new(8, 1).claim(&env, dir.path()).unwrap_err();
        assert!(other.to_string().contains("of cluster 7, not of member 1 of cluster 8"), "{other}");
        DataOwner::new(7, 1).removed().write(&env, dir.path()).unwrap();
        let removed = DataOwner::new(7, 1).claim(&env, dir.path()).unwrap_err();
        assert!(removed.to_string().contains("was removed from cluster 7"), "{removed}");
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused() {
        let (env, dir) = (Env::os(), tempfile::tempdir().unwrap());
        DataOwner { version: 2, ..DataOwner::new(7, 1) }.write(&env, dir.path()).unwrap();
        let newer = DataOwner::read(&env, dir.path()).unwrap_err();
        assert!(newer.to_string().contains("unknown version 2"), "{newer}");
        let mut content = env.disk().read(&dir.path().join(FILE)).unwrap();
        content[7] ^= 1;
        env.disk().write_atomically(&dir.path().join(FILE), &content).unwrap();
        let damaged = DataOwner::read(&env, dir.path()).unwrap_err();
        assert!(damaged.to_string().contains("checksum"), "{damaged}");
    }
}
