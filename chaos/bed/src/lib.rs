//! The test bed: hosts on one machine, each a network namespace on a bridge with a data directory, optionally on a
//! small filesystem of its own, and faults between and under them.
//!
//! Invariant: a run lives in network, mount and PID namespaces of its own ([`isolation`]). Whatever it makes there
//! ends with it, also when the suite is killed, and a second run beside it cannot see it; what it leaves on the disk
//! is named after the process and removed by the next run.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a leaf: it starts processes and changes the kernel

mod bed;
pub mod clock;
pub mod constants;
mod disk;
mod failure;
mod faulty;
mod firewall;
mod host;
pub mod isolation;
mod link;
mod mounts;
mod shell;
mod work;

pub use bed::{Bed, BedOptions};
pub use disk::Disk;
pub use failure::{Failure, Outcome};
pub use faulty::{FaultyDisk, Trouble};
pub use firewall::{between, Firewall, Pair};
pub use host::{Host, Launch};
pub use link::Delay;
pub use shell::{found, shell, tool};
pub use work::{sweep, Work};
