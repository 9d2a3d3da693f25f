use std::sync::Arc;

use bytes::Bytes;
use keelstone_backup::{
    constants::SNAPSHOT_CHUNK_BYTES,
    etcd::{About, EtcdSnapshot},
    BackupError,
};
use keelstone_etcd_api::{pb, ApiError};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    constants::{CLUSTER_VERSION_OF_SNAPSHOTS, ETCD_VERSION},
    member::Member,
};

/// A snapshot on its way to a client, in messages as etcd cuts them. Holds about 1 MiB of it.
pub(crate) struct SnapshotMessages {
    member: Arc<Member>,
    /// Away while it is read.
    snapshot: Option<EtcdSnapshot>,
    revision: i64,
    remaining_bytes: u64,
    piece: Bytes,
    _place: OwnedSemaphorePermit,
}

impl Member {
    /// A snapshot of what this member has applied; it never waits for the others.
    ///
    /// # Errors
    /// `too many requests` if enough are being sent; `corrupt` if the state cannot be read.
    pub async fn snapshot(self: &Arc<Self>) -> Result<SnapshotMessages, ApiError> {
        drop(self.admit(0)?);
        let place = Arc::clone(&self.snapshots).try_acquire_owned().map_err(|_| ApiError::TooManyRequests)?;
        let status = self.status();
        let members = self.members(&status);
        let mvcc = Arc::clone(&self.mvcc);
        let prepared = self.env.offload(move || {
            let export = mvcc.export()?;
            let about = About {
                cluster_version: CLUSTER_VERSION_OF_SNAPSHOTS.to_owned(),
                applied_index: export.applied().index,
                term: status.term,
                members,
            };
            EtcdSnapshot::new(export, about)
        });
        let snapshot = prepared.await.map_err(failed)?;
        Ok(SnapshotMessages {
            member: Arc::clone(self),
            revision: snapshot.revision(),
            remaining_bytes: snapshot.file_bytes(),
            snapshot: Some(snapshot),
            piece: Bytes::new(),
            _place: place,
        })
    }
}

impl SnapshotMessages {
    /// The next message; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<pb::SnapshotResponse>, ApiError> {
        if self.member.stopping.is_cancelled() {
            return Err(ApiError::Stopped);
        }
        if self.piece.is_empty() {
            let Some(mut snapshot) = self.snapshot.take() else { return Ok(None) };
            let read = move || {
                let piece = snapshot.next_bytes();
                (snapshot, piece)
            };
            let (snapshot, piece) = self.member.env.offload(read).await;
            let Some(piece) = piece.map_err(failed)? else { return Ok(None) };
            self.snapshot = Some(snapshot);
            self.piece = piece;
        }
        let blob = self.piece.split_to(self.piece.len().min(SNAPSHOT_CHUNK_BYTES));
        self.remaining_bytes = self.remaining_bytes.saturating_sub(blob.len() as u64);
        Ok(Some(pb::SnapshotResponse {
            header: Some(self.member.header(self.revision)),
            remaining_bytes: self.remaining_bytes,
            blob,
            version: ETCD_VERSION.to_owned(),
        }))
    }
}

fn failed(error: BackupError) -> ApiError {
    tracing::error!(%error, "a snapshot could not be made");
    ApiError::Corrupt
}
