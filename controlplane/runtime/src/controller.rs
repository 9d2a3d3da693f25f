use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::{join_all, BoxFuture, FutureExt};
use keelstone_client::{CancellationToken, ClientError, Object, Store, StoreEvent};
use keelstone_env::fault::{self, Point};
use keelstone_env::Env;
use thiserror::Error;

use crate::queue::WorkQueue;

/// What is to be done with a key after a successful reconciliation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something changes.
    Done,
    /// Look again after this long, even if nothing changes.
    Requeue(Duration),
}

/// Why a reconciliation is tried again (with back-off).
#[derive(Debug, Clone, Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Other(String),
}

/// Brings the world closer to what one object asks for. Level-triggered: only the key is known, never why it
/// was queued; and idempotent: when nothing is to be done, nothing is written.
#[async_trait]
pub trait Reconciler: Send + Sync + 'static {
    /// The controller's name in logs and user agents: `deployment-controller`.
    fn name(&self) -> &'static str;

    /// `key` is `namespace/name`, or `name`. The object may be gone.
    async fn reconcile(&self, key: &str) -> Result<Action, ReconcileError>;
}

/// Feeds a queue from a store.
trait Source: Send + Sync {
    fn wait_synced(&self) -> BoxFuture<'_, ()>;
    /// Runs until it is dropped; `resync` is called when events were missed.
    fn pump<'a>(&'a self, queue: &'a WorkQueue, resync: &'a (dyn Fn() + Sync)) -> BoxFuture<'a, ()>;
    fn enqueue_all(&self, queue: &WorkQueue);
}

struct StoreSource<T, F> {
    store: Store<T>,
    keys: F,
}

impl<T: Object, F: Fn(&T) -> Vec<String> + Send + Sync> Source for StoreSource<T, F> {
    fn wait_synced(&self) -> BoxFuture<'_, ()> {
        self.store.wait_synced().boxed()
    }

    fn pump<'a>(&'a self, queue: &'a WorkQueue, resync: &'a (dyn Fn() + Sync)) -> BoxFuture<'a, ()> {
        async move {
            let mut changes = self.store.subscribe();
            loop {
                match changes.next().await {
                    StoreEvent::Added(object) | StoreEvent::Deleted(object) => self.enqueue(&object, queue),
                    StoreEvent::Updated { old, new } => {
                        self.enqueue(&old, queue);
                        self.enqueue(&new, queue);
                    }
                    StoreEvent::Resync => resync(),
                }
            }
        }
        .boxed()
    }

    fn enqueue_all(&self, queue: &WorkQueue) {
        self.store.list().iter().for_each(|object| self.enqueue(object, queue));
    }
}

impl<T: Object, F: Fn(&T) -> Vec<String>> StoreSource<T, F> {
    fn enqueue(&self, object: &T, queue: &WorkQueue) {
        for key in (self.keys)(object) {
            queue.add(key);
        }
    }
}

/// Runs a [`Reconciler`]: takes keys from its sources through a [`WorkQueue`] and reconciles them with several
/// workers, never the same key twice at a time.
pub struct Controller {
    reconciler: Arc<dyn Reconciler>,
    queue: WorkQueue,
    sources: Vec<Box<dyn Source>>,
    workers: usize,
}

impl Controller {
    /// One worker and no source, at first.
    pub fn new(env: &Env, reconciler: Arc<dyn Reconciler>) -> Self {
        Self { reconciler, queue: WorkQueue::new(env), sources: Vec::new(), workers: 1 }
    }

    /// With a queue made before, that the reconciler may add to as well.
    pub fn queue(mut self, queue: WorkQueue) -> Self {
        self.queue = queue;
        self
    }

    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Reconciles each object of the store under its own key when it changes.
    pub fn watch<T: Object>(self, store: &Store<T>) -> Self {
        self.watch_mapped(store, |object: &T| vec![object.key()])
    }

    /// Reconciles `keys(object)` when an object of the store is added, changed (old and new state count) or
    /// deleted.
    pub fn watch_mapped<T: Object>(
        mut self,
        store: &Store<T>,
        keys: impl Fn(&T) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.sources.push(Box::new(StoreSource { store: store.clone(), keys }));
        self
    }

    /// Runs until `stop`; dropping the future stops at once. Begins once all sources have synced, with every
    /// key.
    pub async fn run(self, stop: &CancellationToken) {
        let this = &self;
        let resync = || this.sources.iter().for_each(|source| source.enqueue_all(&this.queue));
        let work = async {
            for source in &this.sources {
                source.wait_synced().await;
            }
            let resync: &(dyn Fn() + Sync) = &resync;
            let pumps = join_all(this.sources.iter().map(|source| source.pump(&this.queue, resync)));
            let workers = join_all((0..this.workers).map(|_| this.work(resync)));
            futures::join!(pumps, workers);
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    async fn work(&self, resync: &(dyn Fn() + Sync)) {
        while let Some(key) = self.queue.get().await {
            fault::pause(Point::Reconcile).await;
            self.reconcile(&key).await;
            fault::pause(Point::QueueTake).await;
            self.queue.done(&key);
            if self.queue.take_overflow() {
                resync();
            }
        }
    }

    async fn reconcile(&self, key: &str) {
        match self.reconciler.reconcile(key).await {
            Ok(action) => {
                self.queue.forget(key);
                if let Action::Requeue(delay) = action {
                    self.queue.add_after(key, delay);
                }
            }
            Err(error) => {
                let controller = self.reconciler.name();
                match &error {
                    ReconcileError::Client(e) if e.is_conflict() || e.is_not_leader() => {
                        tracing::debug!(controller, key, %error, "will be reconciled again");
                    }
                    _ => tracing::info!(controller, key, %error, "will be reconciled again"),
                }
                self.queue.add_rate_limited(key);
            }
        }
    }
}
