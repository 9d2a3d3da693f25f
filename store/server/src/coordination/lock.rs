use std::sync::Arc;

use bytes::Bytes;
use keelstone_etcd_api::{pb, v3lockpb, ApiError};
use keelstone_raft::RaftError;

use super::queue::delete;
use crate::{auth::Credentials, member::Member};

impl Member {
    /// Waits for the lock and answers with the key that holds it for as long as it exists.
    pub async fn lock(
        self: &Arc<Self>,
        request: v3lockpb::LockRequest,
        credentials: &Credentials,
    ) -> Result<v3lockpb::LockResponse, RaftError> {
        let place = self.enter(&request.name, request.lease, &Bytes::new(), credentials).await?;
        self.wait_for_turn(&request.name, &place, credentials).await?;
        // While it waited its lease may have ended, and its place with it.
        let own = pb::RangeRequest { key: place.key.clone(), ..Default::default() };
        let found = self.range(own, credentials).await?;
        if !found.kvs.iter().any(|kv| kv.create_revision == place.revision) {
            return Err(ApiError::LockSessionExpired.into());
        }
        Ok(v3lockpb::LockResponse { header: found.header, key: place.key })
    }

    pub async fn unlock(
        &self,
        request: v3lockpb::UnlockRequest,
        credentials: &Credentials,
    ) -> Result<v3lockpb::UnlockResponse, RaftError> {
        let header = self.delete_range(delete(&request.key), credentials).await?.header;
        Ok(v3lockpb::UnlockResponse { header })
    }
}
