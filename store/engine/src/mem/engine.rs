use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use keelstone_env::Env;

use super::{columns::Columns, file::EngineFile, frame};
use crate::{constants::MEM_PENDING_BYTES_MAX, Batch, Column, Engine, EngineError, Page, RangeRequest, Snapshot};

/// How a [`MemEngine`] behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemOptions {
    /// After a write, flush by itself with a chance of one in so many, drawn from the env; 0 = never. A real
    /// engine flushes when it likes, and simulation must show that nothing depends on it.
    pub self_flush_one_in: u64,
}

/// An [`Engine`] in memory. Snapshots are O(1); a flush appends to one file.
pub struct MemEngine {
    env: Option<Env>,
    options: MemOptions,
    state: Mutex<State>,
    /// Locked before `state` when both are needed.
    durable: Mutex<Durable>,
}

struct State {
    columns: Columns,
    /// Writes since the last flush, encoded.
    pending: Vec<u8>,
}

struct Durable {
    file: Option<EngineFile>,
    columns: Columns,
}

impl MemEngine {
    /// Opens or creates an engine in `dir` on the env's disk. Blocks.
    pub fn open(env: Env, dir: impl Into<PathBuf>, options: MemOptions) -> Result<Self, EngineError> {
        let (file, columns) = EngineFile::open(Arc::clone(env.disk()), dir.into())?;
        Ok(Self::new(Some(env), options, Some(file), columns))
    }

    /// An engine without a disk: a flush only moves the point that [`MemEngine::crash`] goes back to.
    pub fn volatile() -> Self {
        Self::new(None, MemOptions::default(), None, Columns::default())
    }

    fn new(env: Option<Env>, options: MemOptions, file: Option<EngineFile>, columns: Columns) -> Self {
        let durable = Durable { file, columns: columns.clone() };
        Self { env, options, state: Mutex::new(State { columns, pending: Vec::new() }), durable: Mutex::new(durable) }
    }

    /// A volatile engine with what a crash now would leave of this one.
    pub fn crash(&self) -> Self {
        Self::new(None, MemOptions::default(), None, lock(&self.durable).columns.clone())
    }

    fn columns(&self) -> Columns {
        lock(&self.state).columns.clone()
    }

    fn wants_flush(&self, pending_bytes: usize) -> bool {
        let drawn = match &self.env {
            Some(env) if self.options.self_flush_one_in > 0 => env.random().below(self.options.self_flush_one_in) == 0,
            _ => false,
        };
        drawn || pending_bytes >= MEM_PENDING_BYTES_MAX
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both states are replaced by assignments that cannot stop half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine for MemEngine {
    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let pending_bytes = {
            let mut state = lock(&self.state);
            if self.env.is_some() {
                frame::encode_batch(&batch, &mut state.pending);
            }
            state.columns.apply(&batch);
            state.pending.len()
        };
        if self.wants_flush(pending_bytes) {
            self.flush()?;
        }
        Ok(())
    }

    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        lock(&self.state).columns.get(column, key)
    }

    fn range(&self, request: &RangeRequest) -> Result<Page, EngineError> {
        self.columns().range(request)
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, EngineError> {
        Ok(Arc::new(self.columns()))
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut durable = lock(&self.durable);
        let (payload, columns) = {
            let mut state = lock(&self.state);
            (std::mem::take(&mut state.pending), state.columns.clone())
        };
        if let Some(file) = &mut durable.file {
            if payload.is_empty() {
                return Ok(());
            }
            if let Err(error) = file.append(&payload, &columns) {
                // The next flush writes the whole state, so that these writes are not lost; mark that there
                // is something to flush.
                lock(&self.state).pending.splice(..0, payload);
                return Err(error);
            }
        }
        durable.columns = columns;
        Ok(())
    }

    fn durable_meta(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        lock(&self.durable).columns.get(Column::Meta, key)
    }

    fn size_bytes(&self) -> Result<(u64, u64), EngineError> {
        let on_disk = lock(&self.durable).file.as_ref().map_or(0, EngineFile::length);
        let live = lock(&self.state).columns.live_bytes;
        Ok((on_disk.max(live), live))
    }
}
