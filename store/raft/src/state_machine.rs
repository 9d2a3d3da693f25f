//! openraft's state machine over the MVCC store.

use std::{
    io,
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc, Mutex, PoisonError,
    },
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use keelstone_env::fault::{self, Point, Sight};
use keelstone_env::Env;
use keelstone_mvcc::{Applied, Command, Entry as MvccEntry, Mvcc, Payload, Reply};
use keelstone_wal::Wal;
use openraft::{
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
};
use prost::Message;
use tokio::sync::{watch, Notify};

use crate::{
    constants::{APPLY_BATCH_BYTES_MAX, APPLY_BATCH_MAX, APPLY_SHORT_BYTES_MAX, APPLY_SHORT_ENTRIES_MAX},
    convert,
    hash_history::{HashHistory, INTERVAL_ENTRIES},
    log_store::{decode_log_id, encode_log_id},
    peer,
    snapshot::SnapshotHandle,
    types::{Answer, Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};

/// How far this member has applied, and how much since the last flush.
pub(crate) struct Progress {
    /// All entries before this index are applied and can be read.
    pub applied: watch::Sender<u64>,
    pub unflushed_bytes: AtomicU64,
    /// Woken when `unflushed_bytes` reaches the limit.
    pub flush: Notify,
    pub flush_bytes: u64,
    /// The state's hash at the newest applied indexes, for the comparison with the others.
    pub hashes: Mutex<HashHistory>,
    /// Held while entries are applied, and while a damaged state is replaced.
    pub applying: tokio::sync::Mutex<()>,
}

impl Progress {
    pub(crate) fn new(mvcc: &Mvcc, flush_bytes: u64) -> Self {
        Self {
            applied: watch::Sender::new(applied_end(&mvcc.applied())),
            unflushed_bytes: AtomicU64::new(0),
            flush: Notify::new(),
            flush_bytes,
            hashes: Mutex::default(),
            applying: tokio::sync::Mutex::new(()),
        }
    }
}

impl Progress {
    pub(crate) fn note_hash(&self, mvcc: &Mvcc) {
        let (index, hash) = mvcc.state_hash();
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner).note(index, hash);
    }
}

/// The index after the last applied entry.
fn applied_end(applied: &Applied) -> u64 {
    if applied.log_id.is_empty() {
        0
    } else {
        applied.index + 1
    }
}

/// Applies committed entries. Clones share everything.
#[derive(Clone)]
pub struct StateMachine {
    env: Env,
    mvcc: Arc<Mvcc>,
    wal: Wal,
    progress: Arc<Progress>,
}

/// Entries that become one write batch.
#[derive(Default)]
struct Batch {
    entries: Vec<MvccEntry>,
    responders: Vec<Option<ApplyResponder<TypeConfig>>>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, entry: Entry, responder: Option<ApplyResponder<TypeConfig>>) -> io::Result<()> {
        self.bytes += payload_bytes(&entry);
        self.entries.push(mvcc_entry(entry)?);
        self.responders.push(responder);
        Ok(())
    }

    fn is_full(&self) -> bool {
        // Batches end everywhere at these indexes, so that there are hashes to compare.
        let ends_interval = self.entries.last().is_some_and(|last| last.index.is_multiple_of(INTERVAL_ENTRIES));
        ends_interval
            || fault::rare(Point::ApplyOne)
            || self.entries.len() >= APPLY_BATCH_MAX
            || self.bytes >= APPLY_BATCH_BYTES_MAX
    }
}

fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

fn mvcc_entry(entry: Entry) -> io::Result<MvccEntry> {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(proposal) => Payload::Command(Command::decode(proposal.0).map_err(invalid)?),
        EntryPayload::Membership(membership) => {
            let stored = StoredMembership::new(Some(entry.log_id), membership);
            Payload::Membership(convert::stored_membership_out(&stored).encode_to_vec().into())
        }
    };
    Ok(MvccEntry {
        index: entry.log_id.index(),
        term: entry.log_id.committed_leader_id().term,
        log_id: encode_log_id(&entry.log_id),
        payload,
    })
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What [`Applied`] says, in openraft's types.
pub(crate) fn applied_in(applied: Applied) -> io::Result<(Option<LogId>, StoredMembership)> {
    let log_id = if applied.log_id.is_empty() { None } else { Some(decode_log_id(applied.log_id)?) };
    Ok((log_id, membership_in(applied.membership)?))
}

fn membership_in(bytes: Bytes) -> io::Result<StoredMembership> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let stored = peer::StoredMembership::decode(bytes).map_err(invalid)?;
    convert::stored_membership_in(stored).map_err(invalid)
}

impl StateMachine {
    pub(crate) fn new(env: Env, mvcc: Arc<Mvcc>, wal: Wal, progress: Arc<Progress>) -> Self {
        Self { env, mvcc, wal, progress }
    }

    /// The last applied log id.
    pub(crate) fn applied(&self) -> io::Result<Option<LogId>> {
        Ok(applied_in(self.mvcc.applied())?.0)
    }

    /// Applies entries whose clients are gone, as after a restart.
    pub(crate) async fn replay(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        self.apply_all(futures::stream::iter(entries.into_iter().map(|entry| Ok((entry, None))))).await
    }

    async fn apply_all<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            batch.push(entry, responder)?;
            if batch.is_full() {
                self.apply_batch(std::mem::take(&mut batch)).await?;
            }
        }
        self.apply_batch(batch).await
    }

    async fn apply_batch(&mut self, batch: Batch) -> io::Result<()> {
        let Some(last) = batch.entries.last().map(|entry| entry.index) else { return Ok(()) };
        // A quorum may have what this member has not written yet. What is applied must never be ahead of the
        // local log, or a crash would lose it here after clients have read it here.
        self.wal.wait_durable(last).await?;
        fault::pause(Point::ApplyBatch).await;
        let _applying = self.progress.applying.lock().await;
        let mvcc = Arc::clone(&self.mvcc);
        let entries = batch.entries;
        let is_short = entries.len() <= APPLY_SHORT_ENTRIES_MAX && batch.bytes <= APPLY_SHORT_BYTES_MAX;
        let replies = match is_short {
            true => self.env.offload_short(move || mvcc.apply(entries)).await,
            false => self.env.offload(move || mvcc.apply(entries)).await,
        };
        let replies = replies.map_err(io::Error::other)?;
        fault::pause(Point::ApplyAnswer).await;
        self.note_applied(last, batch.bytes);
        answer(batch.responders, replies);
        Ok(())
    }

    fn note_applied(&self, last: u64, bytes: usize) {
        self.progress.note_hash(&self.mvcc);
        self.progress.applied.send_replace(last + 1);
        let bytes = bytes as u64;
        let before = self.progress.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes >= self.progress.flush_bytes {
            self.progress.flush.notify_one();
        }
    }

    fn pin(&self) -> io::Result<Snapshot> {
        let pinned = self.mvcc.pin().map_err(io::Error::other)?;
        let (last_log_id, last_membership) = applied_in(pinned.applied())?;
        let meta = SnapshotMeta { last_log_id, last_membership };
        Ok(Snapshot { meta, snapshot: SnapshotHandle::Pinned(Box::new(pinned)) })
    }
}

fn answer(responders: Vec<Option<ApplyResponder<TypeConfig>>>, replies: Vec<Reply>) {
    for (responder, reply) in responders.into_iter().zip(replies) {
        if let Some(responder) = responder {
            responder.send(Answer(reply));
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        applied_in(self.mvcc.applied())
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        self.apply_all(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotHandle) -> Result<(), io::Error> {
        let Some(log_id) = meta.last_log_id else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the snapshot is of an empty log"));
        };
        let applied = Applied {
            index: log_id.index(),
            log_id: encode_log_id(&log_id),
            membership: convert::stored_membership_out(&meta.last_membership).encode_to_vec().into(),
        };
        let _applying = self.progress.applying.lock().await;
        let mvcc = Arc::clone(&self.mvcc);
        fault::pause(Point::SnapshotInstall).await;
        self.env.offload(move || snapshot.install(&mvcc, applied)).await?;
        fault::pause(Point::SnapshotInstalled).await;
        fault::sight(Sight::SnapshotSent);
        self.progress.applied.send_replace(log_id.index() + 1);
        tracing::info!(index = log_id.index(), "snapshot installed");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        if self.applied()?.is_none() {
            return Ok(None);
        }
        self.pin().map(Some)
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotHandle;

    /// Takes no time: the view is read only when a follower needs it.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.pin()
    }
}
