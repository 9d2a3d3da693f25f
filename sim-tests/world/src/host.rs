use std::{
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        Arc,
    },
    time::Duration,
};

use futures::future::BoxFuture;
use keelstone_env::{Env, Offload, Random};

use crate::{connections::Connections, net::SimNet, tls::SimTls, SeededRandom, SimClock, SimDisk};

/// The longest seeded delay of offloaded work on a healthy host, in microseconds.
pub const OFFLOAD_DELAY_US_MAX: u64 = 1_500;

/// How often frozen work looks whether it may go on.
const FROZEN_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How often fast timers gain.
const FAST_TIMERS_INTERVAL: Duration = Duration::from_millis(200);

/// What of a host outlives its crashes: its disk, its clock, its randomness.
#[derive(Clone)]
pub struct Host {
    pub name: String,
    pub disk: SimDisk,
    pub clock: SimClock,
    pub connections: Connections,
    random: Arc<SeededRandom>,
    work: Arc<Work>,
}

/// How blocking work and timers behave.
struct Work {
    delay_us_max: AtomicU64,
    frozen: AtomicBool,
    fast_timers_ms: AtomicU64,
}

impl Host {
    /// A host whose clock is off by up to `skew_ms_max` either way.
    pub fn new(seed: u64, name: &str, skew_ms_max: u64) -> Self {
        let random = SeededRandom::derive(seed, name);
        let skew_us = random.below(2_000 * skew_ms_max + 1) as i64 - 1_000 * skew_ms_max as i64;
        let work = Work {
            delay_us_max: AtomicU64::new(OFFLOAD_DELAY_US_MAX),
            frozen: AtomicBool::new(false),
            fast_timers_ms: AtomicU64::new(0),
        };
        Self {
            name: name.to_owned(),
            disk: SimDisk::new(seed, name),
            clock: SimClock::new(skew_us),
            connections: Connections::default(),
            random: Arc::new(random),
            work: Arc::new(work),
        }
    }

    /// From now on offloaded work, which is what reaches the disk, is delayed by up to so many microseconds.
    pub fn set_offload_delay_us_max(&self, delay_us_max: u64) {
        self.work.delay_us_max.store(delay_us_max, Relaxed);
    }

    /// While frozen, offloaded work does not go on.
    pub fn set_frozen(&self, frozen: bool) {
        self.work.frozen.store(frozen, Relaxed);
    }

    /// From now on the host's timers gain so many milliseconds in each 200 ms, and up to a step of the simulation
    /// more. Whole ones: between them tokio's timers would round each step up. It takes [`Host::keep_time`] to run.
    pub fn set_fast_timers_ms(&self, gain_ms: u64) {
        self.work.fast_timers_ms.store(gain_ms, Relaxed);
    }

    /// Runs for ever on the host and moves its timers ahead while they are fast. `tick` is the simulation's
    /// step: an advance gains only what goes beyond it.
    pub async fn keep_time(&self, tick: Duration) {
        loop {
            tokio::time::sleep(FAST_TIMERS_INTERVAL).await;
            let gain_ms = self.work.fast_timers_ms.load(Relaxed);
            if gain_ms > 0 {
                tokio::time::advance(tick + Duration::from_millis(gain_ms)).await;
            }
        }
    }

    /// The world as a process on this host sees it.
    pub fn env(&self) -> Env {
        Env::from_parts(
            Arc::new(self.clock.clone()),
            Arc::new(Shared(self.random.clone())),
            Arc::new(SimNet(self.connections.clone())),
            Arc::new(self.disk.clone()),
            Arc::new(SimTls),
            Arc::new(SimOffload { random: self.random.clone(), work: self.work.clone() }),
        )
    }
}

struct Shared(Arc<SeededRandom>);

impl Random for Shared {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

/// Runs work in place, after a delay that stands for the thread pool and the device.
struct SimOffload {
    random: Arc<SeededRandom>,
    work: Arc<Work>,
}

impl Offload for SimOffload {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let delay = Duration::from_micros(self.random.below(self.work.delay_us_max.load(Relaxed)));
        let state = self.work.clone();
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            while state.frozen.load(Relaxed) {
                tokio::time::sleep(FROZEN_POLL_INTERVAL).await;
            }
            work();
        })
    }
}
