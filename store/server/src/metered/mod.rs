//! What disk, engine and network do, measured at the doors through which a member reaches them: nothing of it is
//! known to the parts that are measured.

mod disk;
mod engine;
mod histogram;
mod net;

use std::sync::{atomic::AtomicU64, Arc};

pub(crate) use disk::MeteredDisk;
pub(crate) use engine::MeteredEngine;
pub(crate) use histogram::Histogram;
pub(crate) use net::{MeteredListener, MeteredNet};

/// Bytes in both directions.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub received_bytes: AtomicU64,
    pub sent_bytes: AtomicU64,
}

/// What is measured.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    /// Syncs of the log's files, and of snapshots that are being received.
    pub log_sync: Histogram,
    pub log_written_bytes: AtomicU64,
    /// Batches of applied commands becoming visible in the engine.
    pub engine_write: Histogram,
    /// Everything that was applied becoming durable in the engine.
    pub engine_flush: Histogram,
    pub clients: Arc<Traffic>,
    pub peers: Arc<Traffic>,
}
