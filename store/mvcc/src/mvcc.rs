use std::sync::{atomic::Ordering, Arc};

use bytes::Bytes;
use keelstone_engine::Engine;
use keelstone_etcd_api::{pb, ApiError};
use tokio::sync::watch as notify;

use crate::{
    apply,
    auth::Access,
    compact, hash,
    lease::LeaseObserver,
    quota,
    read::ReadError,
    record::{StateRecord, STATE_KEY},
    shared::Shared,
    snapshot::{Installer, Pinned},
    watch::{WatchSpec, Watcher},
    Applied, AuthStatus, AuthView, Caller, Entry, LeaseInfo, MvccError, MvccOptions, Op, RangeChunks, Reply,
};

/// The state machine. Readers never wait for a writer.
pub struct Mvcc {
    shared: Arc<Shared>,
}

impl Mvcc {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Opens what `engine` holds, or starts empty at revision 1. Reads leases, alarms and counts; all revisions
    /// only if an older version wrote them. Blocks.
    pub fn open(engine: Arc<dyn Engine>, options: MvccOptions) -> Result<Self, MvccError> {
        Ok(Self { shared: Arc::new(Shared::open(engine, options)?) })
    }

    /// Applies entries in order, as ONE engine batch with the applied index and membership. Entries that
    /// were already applied are skipped (their reply is [`Response::None`](crate::Response::None)). On an
    /// error nothing is applied, and the member should stop. Blocks.
    pub fn apply(&self, entries: Vec<Entry>) -> Result<Vec<Reply>, MvccError> {
        apply::apply(&self.shared, entries)
    }

    pub fn applied(&self) -> Applied {
        self.shared.view().applied()
    }

    /// The applied index that would be found after a crash now; 0 if none.
    pub fn durable_index(&self) -> u64 {
        // A record that cannot be read covers nothing: the log is then kept.
        self.try_durable_index().unwrap_or_else(|error| {
            tracing::error!(%error, "the engine's durable state cannot be read");
            0
        })
    }

    fn try_durable_index(&self) -> Result<u64, MvccError> {
        let record = self.shared.engine.durable_meta(STATE_KEY)?.map(StateRecord::decode_checked).transpose()?;
        Ok(record.map_or(0, |record| record.applied_next.saturating_sub(1)))
    }

    /// Makes everything applied durable; returns the index up to which it is. Blocks.
    pub fn flush(&self) -> Result<u64, MvccError> {
        self.shared.engine.flush()?;
        self.try_durable_index()
    }

    pub fn revision(&self) -> i64 {
        self.shared.view().revision
    }

    /// Revisions before this cannot be read; -1 if nothing was ever compacted, as in etcd.
    pub fn compacted_revision(&self) -> i64 {
        self.shared.view().compacted
    }

    /// The newest revision that is known to have been written by that time of the proposers' wall clocks.
    pub fn revision_at(&self, unix_ms: i64) -> Result<Option<i64>, MvccError> {
        self.shared.view().index().revision_at(unix_ms)
    }

    /// The last [`Moment`](crate::Moment): its time and the revision that was the newest then.
    pub fn last_moment(&self) -> Result<Option<(i64, i64)>, MvccError> {
        self.shared.view().index().last_moment()
    }

    /// Reads one consistent revision; `header.revision` is the current one. Blocks.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ApiError> {
        self.range_for(request, None, &mut |_| Ok(()))
    }

    /// As [`Mvcc::range`], and asks `admit` before the answer grows by so many bytes; its error is the answer.
    pub fn range_admitted(
        &self,
        request: &pb::RangeRequest,
        admit: &mut dyn FnMut(usize) -> Result<(), ApiError>,
    ) -> Result<pb::RangeResponse, ApiError> {
        self.range_for(request, None, admit)
    }

    /// As [`Mvcc::range_admitted`], if `caller` may read the range in the state that is read.
    pub fn range_for(
        &self,
        request: &pb::RangeRequest,
        caller: Option<&Caller>,
        admit: &mut dyn FnMut(usize) -> Result<(), ApiError>,
    ) -> Result<pb::RangeResponse, ApiError> {
        self.shared.range(request, caller, admit)
    }

    /// A range that is read in chunks, from one moment. Orders and filters that [`RangeChunks::is_supported`]
    /// refuses are ignored. Blocks.
    pub fn range_chunks(&self, request: pb::RangeRequest) -> Result<RangeChunks, ApiError> {
        self.range_chunks_for(request, None)
    }

    /// As [`Mvcc::range_chunks`], if `caller` may read the range in the state that is read.
    pub fn range_chunks_for(
        &self,
        request: pb::RangeRequest,
        caller: Option<&Caller>,
    ) -> Result<RangeChunks, ApiError> {
        let view = self.shared.view();
        view.auth.check(caller, Access::Read, &request.key, &request.range_end)?;
        RangeChunks::new(view, request)
    }

    /// Users, roles and what they allow, as of now.
    pub fn auth(&self) -> AuthView {
        AuthView::new(self.shared.view())
    }

    /// Whether auth is on. An atomic load: while it is off, nothing else of auth need be looked at, as every
    /// read and every command is checked against the state that it meets all the same.
    pub fn auth_enabled(&self) -> bool {
        self.shared.auth_enabled.load(Ordering::Acquire)
    }

    /// Changes whenever users or roles do, or auth is turned on or off; after the change can be seen.
    pub fn auth_changes(&self) -> notify::Receiver<AuthStatus> {
        self.shared.auth_changes.subscribe()
    }

    /// Whether `op` may be proposed: `NoSpace` if it would store data beyond the quota (its proposer should
    /// then also raise the NOSPACE alarm) or while that alarm is on; `Corrupt` while that alarm is on for the
    /// whole cluster (member 0).
    pub fn check_quota(&self, op: &Op) -> Result<(), ApiError> {
        let view = self.shared.view();
        if view.is_corrupt() && !matches!(op, Op::Alarm(_)) {
            return Err(ApiError::Corrupt);
        }
        let bytes = quota::stores_bytes(op) as u64;
        if bytes == 0 {
            return Ok(());
        }
        if view.has_alarm(pb::AlarmType::Nospace) || self.exceeds_quota(bytes) {
            return Err(ApiError::NoSpace);
        }
        Ok(())
    }

    /// Whether the store would be beyond its quota with `more_bytes` more.
    pub fn exceeds_quota(&self, more_bytes: u64) -> bool {
        let quota = self.shared.options.quota_bytes;
        quota > 0 && self.shared.in_use_bytes().saturating_add(more_bytes) > quota
    }

    pub fn alarms(&self) -> Vec<pb::AlarmMember> {
        let view = self.shared.view();
        view.alarms.iter().map(|(member_id, alarm)| pb::AlarmMember { member_id: *member_id, alarm: *alarm }).collect()
    }

    /// All leases, by id.
    pub fn leases(&self) -> Vec<LeaseInfo> {
        self.shared.view().leases.iter().map(|(id, ttl_s)| LeaseInfo { id: *id, ttl_s: *ttl_s }).collect()
    }

    pub fn lease(&self, id: i64) -> Option<LeaseInfo> {
        self.shared.view().lease(id)
    }

    /// The keys attached to a lease, in order. Blocks.
    pub fn lease_keys(&self, id: i64) -> Result<Vec<Bytes>, ApiError> {
        self.shared.view().index().attached(id).map_err(|error| ReadError::from(error).into_api())
    }

    /// As [`Mvcc::lease_keys`], if `caller` may read them all.
    pub fn lease_keys_for(&self, id: i64, caller: Option<&Caller>) -> Result<Vec<Bytes>, ApiError> {
        let auth = self.auth();
        auth.check_lease_read(caller, id)?;
        auth.lease_keys(id)
    }

    /// Calls `observer` for each later grant, revoke and reset; replaces the one before.
    pub fn observe_leases(&self, observer: LeaseObserver) {
        self.shared.set_lease_observer(observer);
    }

    /// Removes what compaction made unreadable: looks at up to `budget` changes, in the order they were made.
    /// Returns whether more is left: the caller calls again, at its own pace, beside traffic. Blocks.
    pub fn compact_step(&self, budget: usize) -> Result<bool, MvccError> {
        compact::step(&self.shared, budget)
    }

    /// The applied index and a hash of all effects up to it; equal on all members, whatever they have
    /// physically compacted.
    pub fn state_hash(&self) -> (u64, u64) {
        let view = self.shared.view();
        (view.applied().index, view.hash)
    }

    /// Hash of the key-values that can be read up to `revision` (0 = current), the compacted revision, and the
    /// revision hashed. Reads everything. Blocks.
    pub fn hash_kv(&self, revision: i64) -> Result<(u32, i64, i64), ApiError> {
        hash::hash_kv(&self.shared, revision)
    }

    /// Bytes on disk and bytes of live data, roughly.
    pub fn size_bytes(&self) -> (u64, u64) {
        self.shared.engine.size_bytes().unwrap_or_else(|error| {
            tracing::error!(%error, "the engine's size cannot be read");
            (0, 0)
        })
    }

    /// Looks anew at the bytes of live data, by which the quota is checked. Blocks.
    pub fn refresh_in_use_bytes(&self) -> Result<u64, MvccError> {
        self.shared.refresh_size()?;
        Ok(self.shared.in_use_bytes())
    }

    /// Lets the engine give back space of what was removed. Beside traffic; may take long. Blocks.
    pub fn reclaim(&self) -> Result<(), MvccError> {
        self.shared.refresh_snapshot()?;
        Ok(self.shared.engine.reclaim()?)
    }

    /// A consistent view of everything, at once.
    pub fn pin(&self) -> Result<Pinned, MvccError> {
        Ok(Pinned::new(self.shared.view()))
    }

    /// Begins to take a snapshot beside the current state.
    pub fn begin_install(&self) -> Result<Installer, MvccError> {
        Installer::new(Arc::clone(&self.shared))
    }

    /// Starts a watch; it sees every revision from its start on. A start that was compacted shows as
    /// [`WatchBatch::Compacted`](crate::WatchBatch::Compacted) at the first `next`.
    pub fn watch(&self, spec: WatchSpec) -> Watcher {
        Watcher::new(Arc::clone(&self.shared), &spec)
    }
}
