use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use keelstone_env::{Env, Offload, Random, WallClock};

use crate::{net::SimNet, tls::SimTls, SeededRandom, SimDisk};

/// Where simulated wall clocks begin: 2026-01-01T00:00:00Z.
pub const EPOCH_UNIX_S: u64 = 1_767_225_600;

/// The longest seeded delay of offloaded work, in microseconds.
const OFFLOAD_DELAY_US_MAX: u64 = 1_500;

/// What of a host outlives its crashes: its disk, its clock's skew, its randomness.
#[derive(Clone)]
pub struct Host {
    pub name: String,
    pub disk: SimDisk,
    random: Arc<SeededRandom>,
    skew: Duration,
}

impl Host {
    /// A host whose clock is ahead by up to `skew_ms_max`.
    pub fn new(seed: u64, name: &str, skew_ms_max: u64) -> Self {
        let random = SeededRandom::derive(seed, name);
        let skew = Duration::from_millis(random.below(skew_ms_max.saturating_add(1)));
        Self { name: name.to_owned(), disk: SimDisk::new(seed, name), random: Arc::new(random), skew }
    }

    /// The world as a process on this host sees it.
    pub fn env(&self) -> Env {
        Env::from_parts(
            Arc::new(SimWallClock(self.skew)),
            Arc::new(Shared(self.random.clone())),
            Arc::new(SimNet),
            Arc::new(self.disk.clone()),
            Arc::new(SimTls),
            Arc::new(SimOffload(self.random.clone())),
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
struct SimOffload(Arc<SeededRandom>);

impl Offload for SimOffload {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let delay = Duration::from_micros(self.0.below(OFFLOAD_DELAY_US_MAX));
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            work();
        })
    }
}
