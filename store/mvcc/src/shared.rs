use std::sync::{
    atomic::{AtomicU64, Ordering},
    Arc, Mutex, MutexGuard, PoisonError, RwLock,
};

use bytes::Bytes;
use keelstone_engine::{Batch, Column, Engine, EngineError, Snapshot};
use keelstone_etcd_api::{pb, ApiError};

use crate::{
    compact::Sweep,
    constants::READ_RETRIES_MAX,
    lease::LeaseObserver,
    load,
    read::{self, ReadError, Values},
    record::{self, Revision, SWEPT_KEY},
    view::View,
    watch::Hub,
    LeaseEvent, MvccError, MvccOptions,
};

/// What the handles (store, watchers, installers) share.
pub struct Shared {
    pub engine: Arc<dyn Engine>,
    pub options: MvccOptions,
    pub hub: Hub,
    view: RwLock<Arc<View>>,
    /// Held by whoever changes the state.
    writer: Mutex<Writer>,
    lease_observer: Mutex<Option<LeaseObserver>>,
    /// Bytes of live data, as last seen after a write.
    in_use_bytes: AtomicU64,
    /// Counts the installs that were begun; only the newest may go on.
    pub install_session: AtomicU64,
}

/// State of the writing side.
#[derive(Default)]
pub struct Writer {
    pub sweep: Sweep,
    writes: u64,
}

/// `in_use_bytes` is refreshed after so many writes.
const SIZE_REFRESH_WRITES: u64 = 32;

impl Shared {
    pub fn open(engine: Arc<dyn Engine>, options: MvccOptions) -> Result<Self, MvccError> {
        let record = load::state_record(&*engine)?;
        let generation = record.as_ref().map_or(0, |record| u8::from(record.generation == 1));
        load::wipe_generation(&*engine, record::other_generation(generation))?;
        let view = load::view(&*engine, record)?;
        let writer = Writer { sweep: Sweep::new(swept(&*engine)?), writes: 0 };
        let in_use_bytes = engine.size_bytes()?.1.into();
        Ok(Self {
            hub: Hub::new(view.revision, options.watch_window_events_max),
            engine,
            options,
            view: RwLock::new(Arc::new(view)),
            writer: Mutex::new(writer),
            lease_observer: Mutex::new(None),
            in_use_bytes,
            install_session: AtomicU64::new(0),
        })
    }

    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows a new state to readers. The caller holds the writer.
    pub fn publish(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    pub fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic while writing leaves the published state whole: it changes by one assignment.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self, writer: &mut Writer, batch: Batch) -> Result<(), EngineError> {
        self.engine.write(batch)?;
        writer.writes += 1;
        if writer.writes.is_multiple_of(SIZE_REFRESH_WRITES) {
            self.refresh_size()?;
        }
        Ok(())
    }

    pub fn refresh_size(&self) -> Result<(), EngineError> {
        self.in_use_bytes.store(self.engine.size_bytes()?.1, Ordering::Relaxed);
        Ok(())
    }

    pub fn in_use_bytes(&self) -> u64 {
        self.in_use_bytes.load(Ordering::Relaxed)
    }

    /// The state and the engine's data at one moment.
    pub fn pin(&self) -> Result<(Arc<View>, Arc<dyn Snapshot>), MvccError> {
        let _writer = self.writer();
        Ok((self.view(), self.engine.snapshot()?))
    }

    pub fn set_lease_observer(&self, observer: LeaseObserver) {
        *self.lease_observer.lock().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }

    pub fn notify_leases(&self, events: impl IntoIterator<Item = LeaseEvent>) {
        let observer = self.lease_observer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(observer) = observer {
            events.into_iter().for_each(|event| observer(event));
        }
    }

    /// Runs a read on the newest view, again if compaction or a restore overtook it.
    pub fn read<T>(&self, mut read: impl FnMut(&View, &dyn Values) -> Result<T, ReadError>) -> Result<T, ApiError> {
        for _ in 0..READ_RETRIES_MAX {
            let view = self.view();
            match read(&view, &EngineValues { engine: &*self.engine, generation: view.generation }) {
                Ok(answer) => return Ok(answer),
                Err(ReadError::Api(error)) => return Err(error),
                Err(ReadError::Stale) => {}
                Err(ReadError::Failed(error)) => {
                    tracing::error!(%error, "store read failed");
                    return Err(ApiError::Corrupt);
                }
            }
        }
        tracing::error!("a value that should exist is missing from the engine");
        Err(ApiError::Corrupt)
    }

    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ApiError> {
        self.read(|view, values| {
            if view.has_alarm(pb::AlarmType::Corrupt) {
                return Err(ReadError::Api(ApiError::Corrupt));
            }
            read::range(view, values, view.revision, request)
        })
    }
}

fn swept(engine: &dyn Engine) -> Result<i64, MvccError> {
    match engine.get(Column::Meta, SWEPT_KEY)? {
        None => Ok(-1),
        Some(value) => {
            value[..].try_into().map(i64::from_be_bytes).map_err(|_| MvccError::Corrupt("swept record".to_owned()))
        }
    }
}

/// The values of one generation.
pub struct EngineValues<'a> {
    pub engine: &'a dyn Engine,
    pub generation: u8,
}

impl Values for EngineValues<'_> {
    fn record(&self, at: Revision) -> Result<Option<Bytes>, EngineError> {
        self.engine.get(Column::Revisions, &record::revision_key(self.generation, at))
    }
}
