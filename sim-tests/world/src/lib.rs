//! The simulated world: an [`keelstone_env::Env`] for every host, on turmoil. Disks, wall clocks, randomness and TLS
//! serve the world on madsim too (`sim-tests/interleavings`, `--cfg madsim`), which has hosts and a network of its own.
//!
//! What it can do to a host (the fault model is written where faults are chosen, in `sim-tests/scenarios`):
//! - network: links cut, one-way, held, reordered, slow (turmoil), connections reset ([`Connections`]).
//! - process: crash at any await point; memory is gone, the disk stays.
//! - disk: lost unsynced data, torn writes, and [`DiskFaults`].
//! - time: tokio's virtual clock, which may run fast ([`Host::keep_time`]); wall clocks ([`SimClock`]).
//!
//! One seed per OS process: task ids and tokio's seeds outlive a simulation in the same process.

#[cfg(not(tokio_unstable))]
compile_error!("build with --cfg tokio_unstable (see .cargo/config.toml; a RUSTFLAGS variable overrides it)");

mod clock;
#[cfg(not(madsim))]
mod connections;
#[cfg(not(madsim))]
mod determinism;
mod disk;
mod event_hash;
#[cfg(not(madsim))]
mod host;
#[cfg(not(madsim))]
mod net;
mod random;
mod tls;

pub use clock::{SimClock, EPOCH_UNIX_S};
#[cfg(not(madsim))]
pub use connections::Connections;
#[cfg(not(madsim))]
pub use determinism::Determinism;
pub use disk::{Damage, DiskFaults, PowerCut, SimDisk};
pub use event_hash::EventHash;
#[cfg(not(madsim))]
pub use host::{Host, OFFLOAD_DELAY_US_MAX};
pub use random::SeededRandom;
pub use tls::{simulated_certificate, SimTls};
