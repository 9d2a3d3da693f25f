//! Store workloads under faults, against Keelstone's store or an etcd: clients that record what they did ([`workloads`]),
//! faults ([`nemeses`]) by a seeded [`schedule`], and a [`verdict`] over the history alone, so that a kept history can
//! be judged again.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a leaf: it reads clocks and files

mod cluster;
pub mod constants;
pub mod divergence;
mod ending;
mod etcd_client;
pub mod figures;
pub mod nemeses;
pub mod planted;
pub mod record;
mod run;
pub mod schedule;
pub mod summary;
pub mod target;
pub mod verdict;
pub mod workloads;

pub use cluster::Cluster;
pub use etcd_client::{dial, EtcdClient, Reply};
pub use record::{Class, Line, Recorder};
pub use run::{history_file, run, Options, Recorded};
pub use verdict::{judge, Verdict};
