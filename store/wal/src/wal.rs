use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use keelstone_env::Env;
use tokio::sync::{mpsc, oneshot, watch, OwnedSemaphorePermit, Semaphore};

use crate::{constants, health::HealthCell, memory::Memory, recovery, writer, LogEntry, WalError, WalHealth};

/// Called once the entries are durable, or never will be. Calls come in the order of the appends.
pub type Flushed = Box<dyn FnOnce(Result<(), WalError>) + Send>;

/// Where the log lies and how large its parts are.
#[derive(Clone, Debug)]
pub struct WalOptions {
    pub dir: PathBuf,
    pub segment_bytes_max: u64,
    pub cache_bytes_max: usize,
}

impl WalOptions {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes_max: constants::SEGMENT_BYTES_MAX,
            cache_bytes_max: constants::CACHE_BYTES_MAX,
        }
    }

    /// Bytes by which a segment grows beyond what is written to it.
    pub(crate) fn reserve_bytes(&self) -> usize {
        usize::try_from(self.segment_bytes_max / constants::RESERVES_PER_SEGMENT).unwrap_or(usize::MAX)
    }
}

/// The log as of the newest operation that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalState {
    /// Index of the first entry; `None` if there is none.
    pub first: Option<u64>,
    /// Index and term of the last entry; `None` if there is none.
    pub last: Option<(u64, u64)>,
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    /// The index up to which the log was purged, and the mark that was given with it.
    pub purged: Option<(u64, Bytes)>,
    /// All entries before this index are durable.
    pub durable: u64,
}

/// What the writer is asked to do, in this order.
pub(crate) enum Operation {
    Append { entries: Vec<(u64, LogEntry)>, flushed: Flushed, _place: OwnedSemaphorePermit },
    Vote { vote: Bytes, done: Done },
    Committed { mark: Bytes },
    Truncate { from: u64, done: Done },
    Purge { through: u64, mark: Bytes, done: Done },
    Sync { done: Done },
}

pub(crate) type Done = oneshot::Sender<Result<(), WalError>>;

/// What the handle and the writer share.
pub(crate) struct Shared {
    pub env: Env,
    pub options: WalOptions,
    memory: Mutex<Memory>,
    /// The index after the last durable entry, or why there will be none.
    pub durable: watch::Sender<Result<u64, WalError>>,
    pub health: HealthCell,
}

impl Shared {
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Tells waiters how far the log is durable. A failure stays.
    pub(crate) fn publish(&self, durable: Result<u64, WalError>) {
        self.durable.send_if_modified(|current| match (&*current, &durable) {
            (Err(_), _) => false,
            (Ok(old), Ok(new)) if old == new => false,
            _ => {
                *current = durable;
                true
            }
        });
    }
}

/// The Raft log. Cheap to clone; the log is closed when the last clone is dropped.
#[derive(Clone)]
pub struct Wal {
    shared: Arc<Shared>,
    operations: mpsc::Sender<Operation>,
    queue_kib: Arc<Semaphore>,
}

impl Wal {
    /// Opens the log, making it if it is missing, and cuts a torn tail.
    ///
    /// # Errors
    /// If the disk fails, or if data that had been durable is damaged.
    pub async fn open(env: Env, options: WalOptions) -> Result<Self, WalError> {
        let recovered = {
            let (env, dir) = (env.clone(), options.dir.clone());
            env.clone().offload(move || recovery::recover(&env, &dir)).await?
        };
        let (operations, receiver) = mpsc::channel(constants::QUEUE_OPS_MAX);
        let durable = watch::Sender::new(Ok(recovered.memory.durable));
        let marks = recovered.memory.marks.clone();
        let shared = Arc::new(Shared {
            env,
            options,
            memory: Mutex::new(recovered.memory),
            durable,
            health: HealthCell::default(),
        });
        let writer = writer::Writer::new(Arc::clone(&shared), recovered.current, recovered.closed, marks);
        writer.start(receiver);
        let queue_kib = Arc::new(Semaphore::new(constants::QUEUE_KIB_MAX as usize));
        Ok(Self { shared, operations, queue_kib })
    }

    /// How the disk does at this moment.
    pub fn health(&self) -> WalHealth {
        self.shared.health.get()
    }

    pub fn state(&self) -> WalState {
        let memory = self.shared.memory();
        WalState {
            first: memory.first(),
            last: memory.last(),
            vote: memory.marks.vote.clone(),
            committed: memory.marks.committed.clone(),
            purged: memory.marks.purged.clone(),
            durable: memory.durable,
        }
    }

    /// The newest vote: also one that is not durable yet, of which nobody has been told then.
    pub fn vote(&self) -> Option<Bytes> {
        self.shared.memory().marks.vote.clone()
    }

    /// Queues entries, which can be read as soon as this returns; `flushed` says when they are durable.
    ///
    /// # Errors
    /// If the entries do not follow the log's last one, or the log failed; `flushed` is then not called.
    pub async fn append(&self, entries: Vec<LogEntry>, flushed: Flushed) -> Result<(), WalError> {
        let bytes: usize = entries.iter().map(|entry| entry.body.len() + 64).sum();
        if let Some(entry) = entries.iter().find(|entry| entry.body.len() > constants::ENTRY_BYTES_MAX) {
            return Err(WalError::Misuse(format!("entry {} has {} bytes", entry.index, entry.body.len())));
        }
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(constants::QUEUE_KIB_MAX);
        let place = Arc::clone(&self.queue_kib).acquire_many_owned(kib).await.map_err(|_| WalError::Closed)?;
        let queue = self.operations.reserve().await.map_err(|_| self.failure())?;
        let mut memory = self.shared.memory();
        let mut next = entries.first().map(|entry| entry.index);
        if let Some(first) = next {
            memory.check_next(first)?;
        }
        for entry in &entries {
            if next != Some(entry.index) {
                return Err(WalError::Misuse(format!("entry {} leaves a gap", entry.index)));
            }
            next = Some(entry.index + 1);
        }
        let entries = entries.into_iter().map(|entry| (memory.push(&entry, None), entry)).collect();
        queue.send(Operation::Append { entries, flushed, _place: place });
        drop(memory);
        Ok(())
    }

    /// Saves the vote; durable on return.
    pub async fn save_vote(&self, vote: Bytes) -> Result<(), WalError> {
        self.durably(|memory, done| {
            memory.marks.vote = Some(vote.clone());
            Operation::Vote { vote, done }
        })
        .await
    }

    /// Saves the committed mark. It is durable with the next operation that is, so that a crash may bring
    /// back an older one, never a newer one than the entries that are left.
    pub async fn save_committed(&self, mark: Bytes) -> Result<(), WalError> {
        let queue = self.operations.reserve().await.map_err(|_| self.failure())?;
        let mut memory = self.shared.memory();
        memory.marks.committed = Some(mark.clone());
        queue.send(Operation::Committed { mark });
        drop(memory);
        Ok(())
    }

    /// Voids entry `from` and all later ones; durable on return.
    pub async fn truncate(&self, from: u64) -> Result<(), WalError> {
        let published = Arc::clone(&self.shared);
        self.durably(move |memory, done| {
            memory.truncate(from);
            published.publish(Ok(memory.durable));
            Operation::Truncate { from, done }
        })
        .await
    }

    /// Voids entry `through` and all earlier ones; `through` may lie beyond the end. Durable on return.
    pub async fn purge(&self, through: u64, mark: Bytes) -> Result<(), WalError> {
        let published = Arc::clone(&self.shared);
        self.durably(move |memory, done| {
            memory.purge(through, mark.clone());
            published.publish(Ok(memory.durable));
            Operation::Purge { through, mark, done }
        })
        .await
    }

    /// Returns once everything queued before is durable.
    pub async fn sync(&self) -> Result<(), WalError> {
        self.durably(|_, done| Operation::Sync { done }).await
    }

    /// Every entry before this index is durable. What was before a failure still is after it.
    pub fn durable_end(&self) -> u64 {
        self.shared.memory().durable
    }

    /// Waits until entry `index` is durable.
    pub async fn wait_durable(&self, index: u64) -> Result<(), WalError> {
        let mut durable = self.shared.durable.subscribe();
        let reached = durable.wait_for(|durable| durable.as_ref().map_or(true, |durable| *durable > index)).await;
        match reached {
            Ok(durable) => durable.as_ref().map(|_| ()).map_err(Clone::clone),
            Err(_) => Err(WalError::Closed),
        }
    }

    /// The entries of `start..end` that the log has, in order. With `bytes_max`, possibly only the first
    /// ones (at least one).
    pub async fn read(&self, start: u64, end: u64, bytes_max: Option<u64>) -> Result<Vec<LogEntry>, WalError> {
        crate::read::read(&self.shared, start, end, bytes_max.unwrap_or(u64::MAX)).await
    }

    /// The term of an entry, without reading it.
    pub fn term(&self, index: u64) -> Option<u64> {
        self.shared.memory().slots(index, index.saturating_add(1), u64::MAX).first().map(|(_, slot)| slot.term)
    }

    async fn durably(&self, queue: impl FnOnce(&mut Memory, Done) -> Operation) -> Result<(), WalError> {
        let (done, result) = oneshot::channel();
        let place = self.operations.reserve().await.map_err(|_| self.failure())?;
        {
            // Memory and queue change together, so that they agree on the order.
            let mut memory = self.shared.memory();
            place.send(queue(&mut memory, done));
        }
        result.await.map_err(|_| self.failure())?
    }

    /// Why the writer is gone.
    fn failure(&self) -> WalError {
        self.shared.durable.borrow().as_ref().err().cloned().unwrap_or(WalError::Closed)
    }
}
