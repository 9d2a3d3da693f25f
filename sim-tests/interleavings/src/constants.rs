//! Bounds of a run. Times are simulated.

use std::{ops::Range, time::Duration};

pub const MEMBERS: u64 = 3;
pub const PEER_PORT: u16 = 2380;

/// Clients are at work for so long; faults strike meanwhile.
pub const LOAD_TIME: Duration = Duration::from_secs(15);
/// Faults begin before this, so that all are over when the load ends.
pub const FAULTS_TIME_MAX: Duration = Duration::from_secs(13);
pub const FAULT_MS: Range<u64> = 200..1_500;
pub const FAULT_PAUSE_MS: Range<u64> = 100..1_500;
/// Between two changes of the membership.
pub const CHANGE_PAUSE_MS: Range<u64> = 1_500..5_000;
/// All members agree within this after the load.
pub const LIVENESS_TIME_MAX: Duration = Duration::from_secs(40);
/// madsim ends the run with a panic after this.
pub const RUN_TIME_MAX: Duration = Duration::from_secs(120);
/// A run in which fewer operations had a known end says nothing.
pub const KNOWN_OPERATIONS_MIN: usize = 150;

/// How often the members are looked at from outside.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(50);
pub const LATENCY: Range<Duration> = Duration::from_micros(200)..Duration::from_millis(4);
pub const SLOW_LATENCY: Range<Duration> = Duration::from_millis(5)..Duration::from_millis(60);
/// Blocking work takes up to so many microseconds.
pub const OFFLOAD_US_MAX: u64 = 1_500;
/// Calls that wait at a member's door; one that finds it full was not made.
pub const CALLS_QUEUED_MAX: usize = 256;
pub const LEASE_TTL_S: i64 = 2;
/// What is a pause at a fault point.
pub const POINT_PAUSE_US_MAX: u64 = 3_000;
