use std::sync::{
    atomic::{AtomicBool, AtomicU64, Ordering},
    Arc, Mutex, MutexGuard, PoisonError, RwLock,
};

use keelstone_engine::{Batch, Engine, EngineError};
use keelstone_env::bug::{self, Bug};
use keelstone_etcd_api::{pb, ApiError};
use tokio::sync::watch;

use crate::{
    auth::{Access, AuthStatus, Caller},
    compact::Sweep,
    lease::LeaseObserver,
    load,
    read::{self, ReadError},
    record,
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
    /// Locked before `writer` when both are needed.
    sweep: Mutex<Sweep>,
    /// Held by whoever changes the state.
    writer: Mutex<Writer>,
    lease_observer: Mutex<Option<LeaseObserver>>,
    /// Whether auth is on, and at which revision; changes with every published change of it.
    pub auth_changes: watch::Sender<AuthStatus>,
    pub auth_enabled: AtomicBool,
    /// Bytes of live data, as last seen after a write.
    in_use_bytes: AtomicU64,
    /// Counts the installs that were begun; only the newest may go on.
    pub install_session: AtomicU64,
}

/// State of the writing side.
#[derive(Default)]
pub struct Writer {
    writes: u64,
}

/// `in_use_bytes` is refreshed after so many writes.
const SIZE_REFRESH_WRITES: u64 = 32;

impl Shared {
    pub fn open(engine: Arc<dyn Engine>, options: MvccOptions) -> Result<Self, MvccError> {
        let mut record = load::state_record(&*engine)?;
        let generation = record.as_ref().map_or(0, load::generation);
        load::wipe_generation(&*engine, record::other_generation(generation))?;
        if let Some(record) = &mut record {
            load::upgrade(&*engine, record)?;
        }
        let snapshot = engine.snapshot()?;
        if let Some(record) = record.as_mut().filter(|_| bug::planted(Bug::RevisionFromRows)) {
            record.revision = load::newest_row(&*snapshot, generation)?;
        }
        let sweep = Sweep::new(load::swept(&*snapshot)?);
        let view = load::view(snapshot, record)?;
        let in_use_bytes = engine.size_bytes()?.1.into();
        let auth = AuthStatus { enabled: view.auth.enabled, revision: view.auth.revision };
        Ok(Self {
            auth_changes: watch::Sender::new(auth),
            auth_enabled: auth.enabled.into(),
            hub: Hub::new(view.revision, options.watch_window_events_max),
            engine,
            options,
            view: RwLock::new(Arc::new(view)),
            sweep: Mutex::new(sweep),
            writer: Mutex::new(Writer::default()),
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
        let auth = AuthStatus { enabled: view.auth.enabled, revision: view.auth.revision };
        let old = std::mem::replace(&mut *self.view.write().unwrap_or_else(PoisonError::into_inner), Arc::new(view));
        if (old.auth.enabled, old.auth.revision) != (auth.enabled, auth.revision) {
            self.auth_enabled.store(auth.enabled, Ordering::Release);
            self.auth_changes.send_replace(auth);
        }
    }

    pub fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic while writing leaves the published state whole: it changes by one assignment.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sweep(&self) -> MutexGuard<'_, Sweep> {
        // It says less than was done, at worst.
        self.sweep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self, writer: &mut Writer, batch: Batch) -> Result<(), EngineError> {
        self.engine.write(batch)?;
        writer.writes += 1;
        if writer.writes.is_multiple_of(SIZE_REFRESH_WRITES) {
            self.refresh_size()?;
        }
        Ok(())
    }

    /// Lets go of a snapshot that keeps removed data from being given back.
    pub fn refresh_snapshot(&self) -> Result<(), EngineError> {
        let _writer = self.writer();
        let mut view = View::clone(&self.view());
        view.snapshot = self.engine.snapshot()?;
        self.publish(view);
        Ok(())
    }

    pub fn refresh_size(&self) -> Result<(), EngineError> {
        self.in_use_bytes.store(self.engine.size_bytes()?.1, Ordering::Relaxed);
        Ok(())
    }

    pub fn in_use_bytes(&self) -> u64 {
        self.in_use_bytes.load(Ordering::Relaxed)
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

    /// Reads a range if `caller` may, as of the state that is read.
    pub fn range(
        &self,
        request: &pb::RangeRequest,
        caller: Option<&Caller>,
        admit: read::Admit<'_>,
    ) -> Result<pb::RangeResponse, ApiError> {
        let view = self.view();
        view.auth.check(caller, Access::Read, &request.key, &request.range_end)?;
        if view.is_corrupt() {
            return Err(ApiError::Corrupt);
        }
        read::range(view.index(), view.compacted, request, admit).map_err(ReadError::into_api)
    }
}
