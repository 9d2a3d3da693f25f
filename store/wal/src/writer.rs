//! The one task that writes.

use std::{io, sync::Arc};

use bytes::Bytes;
use keelstone_env::fault::{self, Point, Sight};
use tokio::sync::mpsc;

use crate::{
    codec, constants,
    memory::Place,
    segment::{self, Marks, OpenSegment},
    wal::{Done, Flushed, Operation, Shared},
    WalError,
};

/// Operations taken from the queue for one batch.
const BATCH_OPS_MAX: usize = constants::QUEUE_OPS_MAX;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// Absent only while the blocking pool has it, and after a failure.
    current: Option<OpenSegment>,
    /// Sequence and highest entry index of older segments, oldest first.
    closed: Vec<(u64, u64)>,
    /// As of the last operation written; memory may be ahead.
    marks: Marks,
    /// Where batches are encoded, kept from one to the next.
    buffer: Vec<u8>,
}

/// Who waits for a batch, in order.
enum Waiter {
    Append { placed: Vec<(u64, u64, Place)>, flushed: Flushed },
    Done(Done),
}

/// A batch, encoded.
struct Batch {
    frames: Vec<u8>,
    frames_count: u64,
    index_max: u64,
    sync: bool,
    purge: bool,
    waiters: Vec<Waiter>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, current: OpenSegment, closed: Vec<(u64, u64)>, marks: Marks) -> Self {
        Self { shared, current: Some(current), closed, marks, buffer: Vec::new() }
    }

    /// Starts the writer: on a thread of its own if there are threads, because handing each batch to another
    /// thread and back would cost more than writing it.
    pub(crate) fn start(self, queue: mpsc::Receiver<Operation>) {
        let env = self.shared.env.clone();
        match env.has_threads() {
            #[cfg(not(madsim))]
            true => {
                let pool = env.clone();
                let work = move || tokio::runtime::Handle::current().block_on(self.run(queue));
                env.spawn(async move { pool.offload(work).await });
            }
            _ => drop(env.spawn(self.run(queue))),
        }
    }

    /// Runs what blocks: here, on a thread of its own, or offloaded.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self.shared.env.has_threads() {
            true => work(),
            false => self.shared.env.offload(work).await,
        }
    }

    /// Runs until all handles are gone or the disk fails.
    async fn run(mut self, mut queue: mpsc::Receiver<Operation>) {
        let mut operations = Vec::new();
        while queue.recv_many(&mut operations, BATCH_OPS_MAX).await > 0 {
            fault::pause(Point::WalBatch).await;
            let Some(current) = self.current.take() else { break };
            let batch = self.encode(&current, operations.drain(..));
            let (waiters, result) = self.commit(current, batch, &queue).await;
            let failed = result.is_err();
            self.answer(waiters, result.map_err(WalError::from));
            if failed {
                break;
            }
        }
        // Whoever queued after a failure gets its error; nobody waits for ever.
        queue.close();
        while let Ok(operation) = queue.try_recv() {
            let error = self.shared.durable.borrow().as_ref().err().cloned().unwrap_or(WalError::Closed);
            refuse(operation, &error);
        }
    }

    fn encode(&mut self, current: &OpenSegment, operations: impl Iterator<Item = Operation>) -> Batch {
        let mut frames = FrameWriter::new(current, std::mem::take(&mut self.buffer));
        let mut batch =
            Batch { frames: Vec::new(), frames_count: 0, index_max: 0, sync: false, purge: false, waiters: Vec::new() };
        for operation in operations {
            batch.sync |= !matches!(operation, Operation::Committed { .. });
            match operation {
                Operation::Append { entries, flushed, .. } => {
                    let mut placed = Vec::with_capacity(entries.len());
                    for (serial, entry) in entries {
                        let place = frames.entry(&entry);
                        batch.index_max = batch.index_max.max(entry.index);
                        placed.push((entry.index, serial, place));
                    }
                    batch.waiters.push(Waiter::Append { placed, flushed });
                }
                Operation::Vote { vote, done } => {
                    codec::put_vote(frames.payload(), &vote);
                    self.marks.vote = Some(vote);
                    batch.waiters.push(Waiter::Done(done));
                }
                Operation::Committed { mark } => {
                    codec::put_committed(frames.payload(), &mark);
                    self.marks.committed = Some(mark);
                }
                Operation::Truncate { from, done } => {
                    codec::put_truncate(frames.payload(), from);
                    batch.waiters.push(Waiter::Done(done));
                }
                Operation::Purge { through, mark, done } => {
                    codec::put_purge(frames.payload(), through, &mark);
                    self.note_purge(through, mark);
                    batch.purge = true;
                    batch.waiters.push(Waiter::Done(done));
                }
                Operation::Sync { done } => batch.waiters.push(Waiter::Done(done)),
            }
        }
        (batch.frames, batch.frames_count) = frames.finish();
        batch
    }

    fn note_purge(&mut self, through: u64, mark: Bytes) {
        if self.marks.purged.as_ref().is_none_or(|(purged, _)| *purged < through) {
            self.marks.purged = Some((through, mark));
        }
    }

    /// Writes a batch on the blocking pool, and closes the segment if it is full.
    async fn commit(
        &mut self,
        mut current: OpenSegment,
        batch: Batch,
        queue: &mpsc::Receiver<Operation>,
    ) -> (Vec<Waiter>, io::Result<()>) {
        let Batch { mut frames, frames_count, index_max, sync, purge, waiters } = batch;
        self.shared.health.busy(Some(self.shared.env.now()));
        let result = loop {
            let (shared, marks) = (Arc::clone(&self.shared), self.marks.clone());
            let work = move || {
                let result = current.write(&frames, sync, shared.options.reserve_bytes()).and_then(|()| {
                    current.frames += frames_count;
                    current.index_max = current.index_max.max(index_max);
                    roll(&shared, &mut current, &marks)
                });
                (current, frames, result)
            };
            let (written, tried, result) = self.blocking(work).await;
            (current, frames) = (written, tried);
            let full = matches!(&result, Err(error) if is_full(error));
            if self.shared.health.full(full) {
                match full {
                    true => tracing::error!("the disk of the log is full: writes wait until it has space"),
                    false => tracing::info!("the disk of the log has space again"),
                }
            }
            // What was written of a batch that failed is not counted: it is written again, to the same place.
            if !full || queue.is_closed() {
                break result;
            }
            tokio::time::sleep(constants::FULL_DISK_RETRY_PAUSE).await;
        };
        self.shared.health.busy(None);
        self.current = Some(current);
        frames.clear();
        frames.shrink_to(constants::BUFFER_KEPT_BYTES_MAX);
        self.buffer = frames;
        fault::pause(Point::WalWritten).await;
        match result {
            Ok(closed) => {
                self.closed.extend(closed);
                if purge || closed.is_some() {
                    self.remove_purged().await;
                }
                (waiters, Ok(()))
            }
            Err(error) => (waiters, Err(error)),
        }
    }

    /// Removes the oldest segments as far as all their entries are purged. A failure is no harm: it is tried
    /// again at the next purge.
    async fn remove_purged(&mut self) {
        let Some((through, _)) = self.marks.purged else { return };
        let count = self.closed.iter().take_while(|(_, index_max)| *index_max <= through).count();
        if count == 0 {
            return;
        }
        fault::pause(Point::WalRemove).await;
        let sequences: Vec<u64> = self.closed.iter().take(count).map(|(sequence, _)| *sequence).collect();
        let shared = Arc::clone(&self.shared);
        let removed =
            self.blocking(move || segment::remove(&**shared.env.disk(), &shared.options.dir, &sequences)).await;
        match removed {
            Ok(()) => {
                fault::sight(Sight::SegmentRemoved);
                self.closed.drain(..count);
            }
            Err(error) => {
                tracing::warn!(%error, "purged log segments could not be removed");
                // Those that are gone already must not be tried again.
                let (disk, dir) = (self.shared.env.disk(), &self.shared.options.dir);
                self.closed.retain(|(sequence, _)| disk.exists(&segment::path(dir, *sequence)));
            }
        }
    }

    /// Tells all waiters of a batch, in order.
    fn answer(&mut self, waiters: Vec<Waiter>, result: Result<(), WalError>) {
        if let Err(error) = &result {
            tracing::error!(%error, "writing the log failed");
            self.shared.publish(Err(error.clone()));
        }
        for waiter in waiters {
            match waiter {
                Waiter::Append { placed, flushed } => {
                    if result.is_ok() {
                        self.note_placed(placed);
                    }
                    flushed(result.clone());
                }
                Waiter::Done(done) => drop(done.send(result.clone())),
            }
        }
    }

    fn note_placed(&self, placed: Vec<(u64, u64, Place)>) {
        let mut memory = self.shared.memory();
        for (index, serial, place) in placed {
            // An entry that was truncated meanwhile is not durable in any useful sense.
            if memory.placed(index, serial, place, self.shared.options.cache_bytes_max) {
                memory.durable = memory.durable.max(index + 1);
            }
        }
        let durable = memory.durable;
        self.shared.publish(Ok(durable));
    }
}

/// Closes a segment that has grown enough and begins the next one; returns what was closed. On a full disk the
/// old one goes on for now: everything in it is durable already, so a failure is never "no space", after which the batch
/// would be written again.
fn roll(shared: &Shared, current: &mut OpenSegment, marks: &Marks) -> io::Result<Option<(u64, u64)>> {
    if current.length < shared.options.segment_bytes_max {
        return Ok(None);
    }
    current.close()?;
    let next = match OpenSegment::create(&shared.env, &shared.options.dir, current.sequence + 1, marks) {
        // Its name, once it is there, says that the old one has ended.
        Err(error) if is_full(&error) && !has_name(shared, current.sequence + 1) => return Ok(None),
        next => next.map_err(|error| io::Error::other(format!("the next segment: {error}")))?,
    };
    let closed = (current.sequence, current.index_max);
    *current = next;
    Ok(Some(closed))
}

fn has_name(shared: &Shared, sequence: u64) -> bool {
    shared.env.disk().exists(&segment::path(&shared.options.dir, sequence))
}

/// No space: the one failure of a write after which all that was durable still is, and that may pass.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn refuse(operation: Operation, error: &WalError) {
    match operation {
        Operation::Append { flushed, .. } => flushed(Err(error.clone())),
        Operation::Vote { done, .. }
        | Operation::Truncate { done, .. }
        | Operation::Purge { done, .. }
        | Operation::Sync { done } => drop(done.send(Err(error.clone()))),
        Operation::Committed { .. } => {}
    }
}

/// Cuts records into frames.
struct FrameWriter {
    out: Vec<u8>,
    /// Where the frame that is being filled begins in `out`.
    open: Option<usize>,
    segment_length: u64,
    sequence: u64,
    salt: u64,
    synced: u64,
    first_number: u64,
    count: u64,
}

impl FrameWriter {
    /// Writes into `out`, which is empty.
    fn new(current: &OpenSegment, out: Vec<u8>) -> Self {
        Self {
            out,
            open: None,
            segment_length: current.length,
            sequence: current.sequence,
            salt: current.salt,
            synced: current.synced,
            first_number: current.frames,
            count: 0,
        }
    }

    /// Where the next record goes.
    fn payload(&mut self) -> &mut Vec<u8> {
        match self.open {
            Some(at) if self.out.len() - at > constants::FRAME_BYTES_MAX => {
                self.close();
                self.open = Some(codec::begin_frame(&mut self.out));
            }
            Some(_) => {}
            None => self.open = Some(codec::begin_frame(&mut self.out)),
        }
        &mut self.out
    }

    fn entry(&mut self, entry: &crate::LogEntry) -> Place {
        let (at, crc) = codec::put_entry(self.payload(), entry);
        Place {
            sequence: self.sequence,
            offset: self.segment_length + at as u64,
            length: u32::try_from(entry.body.len()).expect("bounded by ENTRY_BYTES_MAX"),
            crc,
        }
    }

    fn close(&mut self) {
        if let Some(at) = self.open.take() {
            codec::end_frame(&mut self.out, at, self.salt, self.first_number + self.count, self.synced);
            self.count += 1;
        }
    }

    fn finish(mut self) -> (Vec<u8>, u64) {
        self.close();
        (self.out, self.count)
    }
}
