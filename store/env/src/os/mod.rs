//! The real world. The one place that may call what `clippy.toml` bans elsewhere.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod disk;
mod net;
mod process;
mod tls;

use std::{
    io::Read,
    time::{Duration, SystemTime},
};

pub use disk::OsDisk;
use futures::future::BoxFuture;
pub use net::OsNet;
pub use process::{process_stats, ProcessStats};
pub use tls::RustlsTls;

use crate::{env::WallClock, Offload, Random};

pub struct OsWallClock;

impl WallClock for OsWallClock {
    fn since_unix_epoch(&self) -> Duration {
        // A clock before 1970 is read as 1970.
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

/// The kernel's random bytes.
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let source = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(bytes));
        source.expect("the kernel gives random bytes");
    }
}

/// Tokio's blocking threads; the runtime's builder bounds them.
pub struct BlockingPool;

impl Offload for BlockingPool {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let task = tokio::task::spawn_blocking(work);
        Box::pin(async move {
            if let Err(error) = task.await {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        })
    }

    fn has_threads(&self) -> bool {
        true
    }
}
