use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{task::JoinHandle, time::Instant};

#[cfg(not(madsim))]
use crate::os;
use crate::{Disk, Net, Offload, Random, Tls};

/// The wall clock, for timestamps that people read. Never for measuring a duration.
pub trait WallClock: Send + Sync + 'static {
    /// Time since 1970-01-01T00:00:00Z.
    fn since_unix_epoch(&self) -> Duration;
}

/// A handle to the world. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    wall: Arc<dyn WallClock>,
    random: Arc<dyn Random>,
    net: Arc<dyn Net>,
    disk: Arc<dyn Disk>,
    tls: Arc<dyn Tls>,
    offload: Arc<dyn Offload>,
}

impl Env {
    /// The real world.
    #[cfg(not(madsim))]
    pub fn os() -> Self {
        Self {
            wall: Arc::new(os::OsWallClock),
            random: Arc::new(os::OsRandom),
            net: Arc::new(os::OsNet),
            disk: Arc::new(os::OsDisk),
            tls: Arc::new(os::RustlsTls),
            offload: Arc::new(os::BlockingPool),
        }
    }

    /// A world made of the given parts; the simulator's constructor.
    pub fn from_parts(
        wall: Arc<dyn WallClock>,
        random: Arc<dyn Random>,
        net: Arc<dyn Net>,
        disk: Arc<dyn Disk>,
        tls: Arc<dyn Tls>,
        offload: Arc<dyn Offload>,
    ) -> Self {
        Self { wall, random, net, disk, tls, offload }
    }

    /// This world with another disk, such as one that measures.
    pub fn with_disk(&self, disk: Arc<dyn Disk>) -> Self {
        Self { disk, ..self.clone() }
    }

    /// This world with another network, such as one that measures.
    pub fn with_net(&self, net: Arc<dyn Net>) -> Self {
        Self { net, ..self.clone() }
    }

    /// The monotonic clock; virtual under simulation.
    #[cfg_attr(madsim, allow(clippy::disallowed_methods, reason = "std's clock is madsim's in that build"))]
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// The wall clock. It may jump; use [`Env::now`] to measure durations.
    pub fn wall_now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.wall.since_unix_epoch()
    }

    /// Whole seconds since 1970 on the wall clock.
    pub fn unix_time_s(&self) -> i64 {
        i64::try_from(self.wall.since_unix_epoch().as_secs()).unwrap_or(i64::MAX)
    }

    pub fn random(&self) -> &dyn Random {
        &*self.random
    }

    pub fn net(&self) -> &Arc<dyn Net> {
        &self.net
    }

    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub fn tls(&self) -> &Arc<dyn Tls> {
        &self.tls
    }

    /// Runs `work` where blocking is allowed, and returns its result. Under simulation it runs in place
    /// after a seeded delay.
    ///
    /// # Panics
    /// If `work` panics, the panic is continued here.
    pub async fn offload<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.offload
            .run(Box::new(move || {
                // The caller may have gone away; the work is done all the same.
                let _ = sender.send(work());
            }))
            .await;
        receiver.await.expect("offloaded work ended without a result: it panicked")
    }

    /// See [`Offload::has_threads`].
    pub fn has_threads(&self) -> bool {
        self.offload.has_threads()
    }

    /// As [`Env::offload`], for work that takes at most about a millisecond and hardly ever waits for the disk:
    /// handing it to another thread and back would cost more than it does.
    pub async fn offload_short<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match self.has_threads() {
            true => work(),
            false => self.offload(work).await,
        }
    }

    /// Starts a task. It ends with the process (or, under simulation, with its host).
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(crate::fault::overtaken(task))
    }
}
