//! A member's continuous backup of itself (`--backup-dir`).

use std::sync::{Arc, PoisonError};

use keelstone_backup::{
    archive::{MvccSource, Progress, Recorder, RecorderOptions},
    etcd::About,
    BackupError,
};

use crate::{
    constants::{BACKUP_RETRY_PAUSE, CLUSTER_VERSION_OF_SNAPSHOTS},
    member::Member,
};

/// Backs this member's state up until it stops. A folder that cannot be written is tried again: a backup must
/// not end because a disk was full for a while.
pub(crate) async fn keep(member: Arc<Member>, options: RecorderOptions) {
    loop {
        if let Err(error) = run(&member, &options).await {
            tracing::error!(%error, dir = %options.dir.display(), "the backup failed; it will be tried again");
        }
        tokio::select! {
            biased;
            () = member.stopping.cancelled() => return,
            () = tokio::time::sleep(BACKUP_RETRY_PAUSE) => {}
        }
    }
}

async fn run(member: &Arc<Member>, options: &RecorderOptions) -> Result<(), BackupError> {
    let status = member.status();
    let about = About {
        cluster_version: CLUSTER_VERSION_OF_SNAPSHOTS.to_owned(),
        // Each full backup says its own.
        applied_index: 0,
        term: status.term,
        members: member.members(&status),
    };
    let env = member.env.clone();
    let source = Arc::new(MvccSource::new(env.clone(), Arc::clone(&member.mvcc), member.cluster_id, about));
    let options = options.clone();
    let recorder = env.clone().offload(move || Recorder::new(env, source, options)).await?;
    *member.backup.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorder.progress());
    recorder.run(member.stopping.cancelled()).await
}

impl Member {
    /// How far this member's backup is; `None` if it has none.
    pub fn backup_progress(&self) -> Option<Progress> {
        let backup = self.backup.lock().unwrap_or_else(PoisonError::into_inner);
        backup.as_ref().map(|progress| progress.borrow().clone())
    }
}
