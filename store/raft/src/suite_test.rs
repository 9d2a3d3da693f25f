//! openraft's own conformance suite on our log store.
//!
//! The suite applies entries that it never appended, and with gaps; our state machine refuses both. So a
//! plain one stands in for it here, and whole clusters (`tests/cluster`) test the real one.

use std::io;

use futures::{Stream, TryStreamExt};
use keelstone_env::Env;
use keelstone_wal::{Wal, WalOptions};
use openraft::{
    entry::RaftEntry,
    storage::{EntryResponder, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
    EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageError,
};

use crate::{
    log_store::LogStore,
    types::{LogId, SnapshotMeta, StoredMembership, TypeConfig},
};

type PlainSnapshot = openraft::alias::SnapshotOf<TypeConfig, ()>;

/// Remembers how far it was applied, and the membership.
#[derive(Clone, Default)]
struct Plain {
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl RaftStateMachine<TypeConfig> for Plain {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, _)) = entries.try_next().await? {
            self.applied = Some(entry.log_id());
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(self.applied, membership);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, (): ()) -> Result<(), io::Error> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<PlainSnapshot>, io::Error> {
        match self.applied {
            None => Ok(None),
            Some(_) => self.build_snapshot().await.map(Some),
        }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Plain {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<PlainSnapshot, io::Error> {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Ok(PlainSnapshot { meta, snapshot: () })
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Plain, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Plain), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let wal = Wal::open(Env::os(), WalOptions::new(dir.path())).await.unwrap();
        Ok((dir, LogStore::new(wal), Plain::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_log_store_passes_openrafts_suite() {
    Suite::test_all(Builder).await.unwrap();
}
