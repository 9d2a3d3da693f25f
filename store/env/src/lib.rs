//! The only door to the outside world: clock, wall clock, randomness, network, disk, TLS and blocking work.
//!
//! Every component is given an [`Env`] by its constructor. [`Env::os`] is the real world; the simulator
//! (`sim-tests/world`) supplies its own parts. Timers are `tokio::time`, which is virtual under simulation,
//! so [`Env::now`] is tokio's clock; everything else goes through the traits here.
//!
//! Invariant: no other product crate names `std::fs`, `std::net`, `tokio::net`, `SystemTime::now`,
//! `Instant::now`, a random number generator or a thread. `clippy.toml` enforces it.

// See that crate.
#[cfg(madsim)]
extern crate keelstone_madsim as tokio;

pub mod bug;
mod disk;
mod env;
pub mod fault;
mod following;
mod grpc;
mod net;
mod offload;
#[cfg(not(madsim))]
mod one_task;
#[cfg(not(madsim))]
mod os;
mod random;
mod tls;

pub use disk::{Disk, DiskFile, DiskLock, OpenMode};
pub use env::{Env, WallClock};
pub use following::{following_acceptor, following_connector, TlsFiles, TLS_FILES_INTERVAL};
#[cfg(madsim)]
pub use grpc::Tasks;
pub use grpc::{channel, incoming, ChannelOptions, GrpcPeer, GrpcStream, HANDSHAKES_MAX, HANDSHAKE_MS_MAX};
pub use net::{BoxedIo, Io, Listener, Net};
pub use offload::Offload;
#[cfg(not(madsim))]
pub use one_task::{one_task, Calls, GatheredIo, OneTask, Turns, UNWRITTEN_BYTES_MAX};
#[cfg(not(madsim))]
pub use os::{process_stats, ProcessStats};
pub use random::Random;
pub use tls::{ClientTls, Identity, ServerTls, Tls, TlsAcceptor, TlsConnector, TlsStream};
