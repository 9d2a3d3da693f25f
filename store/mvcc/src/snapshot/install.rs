use std::sync::{atomic::Ordering, Arc};

use bytes::{BufMut, Bytes, BytesMut};
use keelstone_engine::{Batch, Column};

use super::chunk::Chunk;
use crate::{
    compact::Sweep,
    index, load,
    record::{self, StateRecord, DATA_COLUMNS, FORMAT_VERSION_WITHOUT_INDEX, STATE_KEY, SWEPT_KEY},
    shared::Shared,
    Applied, LeaseEvent, MvccError,
};

/// Takes a snapshot's chunks. Until [`Installer::finish`] returns, and after a crash before that, the old
/// state stays as it was. Beginning another install ends this one.
pub struct Installer {
    shared: Arc<Shared>,
    session: u64,
    generation: u8,
    sequence: u64,
    state: Option<StateRecord>,
    complete: bool,
}

impl Installer {
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Self, MvccError> {
        let writer = shared.writer();
        let session = shared.install_session.fetch_add(1, Ordering::SeqCst) + 1;
        let generation = record::other_generation(shared.view().generation);
        load::wipe_generation(&*shared.engine, generation)?;
        drop(writer);
        Ok(Self { shared, session, generation, sequence: 0, state: None, complete: false })
    }

    /// Takes the next chunk, in the order of [`Pinned::next_chunk`](super::Pinned::next_chunk). Blocks.
    pub fn chunk(&mut self, chunk: Bytes) -> Result<(), MvccError> {
        let chunk = Chunk::decode_checked(&chunk)?;
        if self.complete || chunk.sequence != self.sequence {
            return Err(MvccError::Snapshot(format!("chunk {} instead of {}", chunk.sequence, self.sequence)));
        }
        if chunk.sequence == 0 {
            self.state = chunk.state;
        }
        let mut batch = Batch::default();
        for pair in chunk.pairs {
            let mut key = BytesMut::with_capacity(pair.key.len() + 1);
            key.put_u8(self.generation);
            key.put_slice(&pair.key);
            // A copy: a slice would keep the whole chunk.
            batch.put(pair.column()?, key, Bytes::copy_from_slice(&pair.value));
        }
        let mut writer = self.shared.writer();
        self.check_session()?;
        self.shared.write(&mut writer, batch)?;
        self.sequence += 1;
        self.complete = chunk.last;
        Ok(())
    }

    fn check_session(&self) -> Result<(), MvccError> {
        if self.shared.install_session.load(Ordering::SeqCst) == self.session {
            return Ok(());
        }
        Err(MvccError::Snapshot("another install has begun".to_owned()))
    }

    /// Replaces the state in one durable step. `applied` is what the snapshot's metadata says; its index must
    /// be that of the chunks, and not behind what is applied here. Blocks.
    pub fn finish(self, applied: Applied) -> Result<(), MvccError> {
        let state = self.checked_state(applied)?;
        if state.format_version == FORMAT_VERSION_WITHOUT_INDEX {
            index::build(&*self.shared.engine, self.generation)?;
        }
        let mut sweep = self.shared.sweep();
        let mut writer = self.shared.writer();
        self.check_session()?;
        let old = self.shared.view();
        if state.applied_next < old.applied_next {
            return Err(MvccError::OutOfOrder { applied: old.applied().index, got: state.applied_next - 1 });
        }
        let swept = if state.format_version == FORMAT_VERSION_WITHOUT_INDEX { -1 } else { state.swept };
        let mut view = load::view(self.shared.engine.snapshot()?, Some(state))?;
        let mut batch = Batch::default();
        batch.put(Column::Meta, STATE_KEY, record::encode(&view.record()));
        batch.put(Column::Meta, SWEPT_KEY, swept.to_be_bytes().to_vec());
        let (start, end) = record::generation_bounds(old.generation);
        for column in DATA_COLUMNS {
            batch.delete_range(column, start.clone(), end.clone());
        }
        self.shared.write(&mut writer, batch)?;
        self.shared.engine.flush()?;
        *sweep = Sweep::new(swept);
        view.snapshot = self.shared.engine.snapshot()?;
        // The generation is taken: later chunks of any install would write into the state.
        self.shared.install_session.fetch_add(1, Ordering::SeqCst);
        let revision = view.revision;
        self.shared.publish(view);
        self.shared.hub.reset(revision);
        self.shared.refresh_size()?;
        self.shared.notify_leases([LeaseEvent::Reset]);
        Ok(())
    }

    fn checked_state(&self, applied: Applied) -> Result<StateRecord, MvccError> {
        let invalid = |what: &str| MvccError::Snapshot(what.to_owned());
        let state = self.state.clone().filter(|_| self.complete).ok_or_else(|| invalid("it is incomplete"))?;
        // Through its checks, as if it came from the engine.
        let state = StateRecord::decode_checked(record::encode(&state))?;
        if state.applied_next == 0 || state.applied_next - 1 != applied.index {
            return Err(invalid("its chunks are of another index than its metadata"));
        }
        let generation = u32::from(self.generation);
        Ok(StateRecord { generation, log_id: applied.log_id, membership: applied.membership, ..state })
    }
}
