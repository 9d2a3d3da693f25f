use std::{
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Arc,
    },
    time::Duration,
};

use futures::future::BoxFuture;
use keelstone_env::{Env, Offload, Random, WallClock};

use crate::{net::SimNet, tls::SimTls, SeededRandom, SimDisk};

/// Where simulated wall clocks begin: 2026-01-01T00:00:00Z.
pub const EPOCH_UNIX_S: u64 = 1_767_225_600;

/// The longest seeded delay of offloaded work on a healthy host, in microseconds.
pub const OFFLOAD_DELAY_US_MAX: u64 = 1_500;

/// What of a host outlives its crashes: its disk, its clock's skew, its randomness.
#[derive(Clone)]
pub struct Host {
    pub name: String,
    pub disk: SimDisk,
    random: Arc<SeededRandom>,
    skew: Duration,
    offload_delay_us_max: Arc<AtomicU64>,
}

impl Host {
    /// A host whose clock is ahead by up to `skew_ms_max`.
    pub fn new(seed: u64, name: &str, skew_ms_max: u64) -> Self {
        let random = SeededRandom::derive(seed, name);
        let skew = Duration::from_millis(random.below(skew_ms_max.saturating_add(1)));
        Self {
            name: name.to_owned(),
            disk: SimDisk::new(seed, name),
            random: Arc::new(random),
            skew,
            offload_delay_us_max: Arc::new(AtomicU64::new(OFFLOAD_DELAY_US_MAX)),
        }
    }

    /// From now on offloaded work, which is what reaches the disk, is delayed by up to so many microseconds.
    pub fn set_offload_delay_us_max(&self, delay_us_max: u64) {
        self.offload_delay_us_max.store(delay_us_max, Relaxed);
    }

    /// The world as a process on this host sees it.
    pub fn env(&self) -> Env {
        Env::from_parts(
            Arc::new(SimWallClock(self.skew)),
            Arc::new(Shared(self.random.clone())),
            Arc::new(SimNet),
            Arc::new(self.disk.clone()),
            Arc::new(SimTls),
            Arc::new(SimOffload { random: self.random.clone(), delay_us_max: self.offload_delay_us_max.clone() }),
        )
    }
}

struct Shared(Arc<SeededRandom>);

impl Random for Shared {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

struct SimWallClock(Duration);

impl WallClock for SimWallClock {
    fn since_unix_epoch(&self) -> Duration {
        Duration::from_secs(EPOCH_UNIX_S) + turmoil::sim_elapsed().unwrap_or_default() + self.0
    }
}

/// Runs work in place, after a delay that stands for the thread pool and the device.
struct SimOffload {
    random: Arc<SeededRandom>,
    delay_us_max: Arc<AtomicU64>,
}

impl Offload for SimOffload {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let delay = Duration::from_micros(self.random.below(self.delay_us_max.load(Relaxed)));
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            work();
        })
    }
}
