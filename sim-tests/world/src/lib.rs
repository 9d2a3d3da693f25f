//! The simulated world: an [`keelstone_env::Env`] for every host, on turmoil.
//!
//! The fault model:
//! - network: partitions (two-way, one-way), held and released links, latency; no message is altered.
//! - process: crash at any await point; memory is gone, the disk stays.
//! - disk: at a crash the writes and names that were not synced are cut at a seeded point, the last write
//!   may be torn; synced data stays. Planted: a disk that lies about its syncs ([`DiskFaults::lying_sync`]).
//! - time: tokio's virtual clock; wall clocks with a seeded skew for each host.
//!
//! One seed per OS process: task ids and tokio's seeds outlive a simulation in the same process.

#[cfg(not(tokio_unstable))]
compile_error!("build with --cfg tokio_unstable (see .cargo/config.toml; a RUSTFLAGS variable overrides it)");

mod determinism;
mod disk;
mod event_hash;
mod host;
mod net;
mod random;
mod tls;

pub use determinism::Determinism;
pub use disk::{DiskFaults, SimDisk};
pub use event_hash::EventHash;
pub use host::{Host, EPOCH_UNIX_S, OFFLOAD_DELAY_US_MAX};
pub use random::SeededRandom;
pub use tls::simulated_certificate;
