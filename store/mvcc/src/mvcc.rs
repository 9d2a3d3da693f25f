use std::sync::Arc;

use bytes::Bytes;
use keelstone_engine::Engine;
use keelstone_etcd_api::{pb, ApiError};

use crate::{
    lease::LeaseObserver,
    snapshot::{Installer, Pinned},
    watch::{WatchSpec, Watcher},
    Applied, Entry, LeaseInfo, MvccError, MvccOptions, Op, Reply,
};

/// The state machine. Shared by `Arc`; readers never wait for a writer.
pub struct Mvcc {}

impl Mvcc {
    /// Opens what `engine` holds, or starts empty at revision 1. Blocks.
    pub fn open(engine: Arc<dyn Engine>, options: MvccOptions) -> Result<Self, MvccError> {
        drop((engine, options));
        Ok(Self {})
    }

    /// Applies entries in order, as ONE engine batch with the applied index and membership. Entries that
    /// were already applied are skipped (their reply is [`Response::None`](crate::Response::None)). Blocks.
    pub fn apply(&self, entries: Vec<Entry>) -> Result<Vec<Reply>, MvccError> {
        drop(entries);
        Ok(Vec::new())
    }

    pub fn applied(&self) -> Applied {
        Applied::default()
    }

    /// The applied index that would be found after a crash now; 0 if none.
    pub fn durable_index(&self) -> u64 {
        0
    }

    /// Makes everything applied durable; returns the index up to which it is. Blocks.
    pub fn flush(&self) -> Result<u64, MvccError> {
        Ok(0)
    }

    pub fn revision(&self) -> i64 {
        0
    }

    pub fn compacted_revision(&self) -> i64 {
        0
    }

    /// Reads one consistent revision; `header.revision` is the current one. Blocks.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ApiError> {
        drop(request.clone());
        Err(ApiError::Stopped)
    }

    /// Whether `op` may be proposed: `NoSpace` if it would store data beyond the quota (its proposer should
    /// then also raise the NOSPACE alarm) or while that alarm is on, `Corrupt` while that alarm is on.
    pub fn check_quota(&self, op: &Op) -> Result<(), ApiError> {
        drop(op.clone());
        Ok(())
    }

    pub fn alarms(&self) -> Vec<pb::AlarmMember> {
        Vec::new()
    }

    pub fn leases(&self) -> Vec<LeaseInfo> {
        Vec::new()
    }

    pub fn lease(&self, id: i64) -> Option<LeaseInfo> {
        let _ = id;
        None
    }

    /// The keys attached to a lease, in order.
    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        let _ = id;
        Vec::new()
    }

    /// Calls `observer` for each later grant, revoke and reset; replaces the one before.
    pub fn observe_leases(&self, observer: LeaseObserver) {
        drop(observer);
    }

    /// Removes what compaction made unreadable, at most about `budget` keys looked at or versions removed.
    /// Returns whether more is left: the caller calls again, at its own pace, beside traffic. Blocks.
    pub fn compact_step(&self, budget: usize) -> Result<bool, MvccError> {
        let _ = budget;
        Ok(false)
    }

    /// The applied index and a hash of all effects up to it; equal on all members, whatever they have
    /// physically compacted.
    pub fn state_hash(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Hash of the key-values readable up to `revision` (0 = current), the compacted revision and the revision
    /// hashed. Reads everything. Blocks.
    pub fn hash_kv(&self, revision: i64) -> Result<(u32, i64, i64), ApiError> {
        let _ = revision;
        Ok((0, 0, 0))
    }

    /// Bytes on disk and bytes of live data, roughly.
    pub fn size_bytes(&self) -> (u64, u64) {
        (0, 0)
    }

    /// A consistent view of everything, at once.
    pub fn pin(&self) -> Result<Pinned, MvccError> {
        Ok(Pinned {})
    }

    pub fn begin_install(&self) -> Result<Installer, MvccError> {
        Ok(Installer {})
    }

    /// Starts a watch; it sees every revision from its start on. A start that was compacted shows as
    /// [`WatchBatch::Compacted`](crate::WatchBatch::Compacted) at the first `next`.
    pub fn watch(&self, spec: WatchSpec) -> Watcher {
        drop(spec);
        Watcher {}
    }
}
