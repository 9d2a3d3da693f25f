//! Bounds of a run. Times are simulated unless a name says otherwise.

use std::time::Duration;

/// Client operations that a run does at least.
pub const OPERATIONS_MIN: usize = 500;
/// Fault kinds that fire in a run at least.
pub const FAULT_KINDS_MIN: usize = 2;
/// The load goes on for so long at least.
pub const SAFETY_TIME_MIN: Duration = Duration::from_secs(25);
/// A run whose load has not ended after this had too little availability to say anything.
pub const SAFETY_TIME_MAX: Duration = Duration::from_secs(180);
/// After the faults were repaired, everything must agree within this.
pub const LIVENESS_TIME_MAX: Duration = Duration::from_secs(60);
/// The simulation ends, as a violation, after this.
pub const SIMULATED_TIME_MAX: Duration = Duration::from_secs(600);

/// Simulated time moves in such steps; messages arrive at their ends.
pub const TICK: Duration = Duration::from_millis(2);
/// Latency of a message on a healthy link.
pub const LATENCY_MIN: Duration = Duration::from_micros(200);
pub const LATENCY_MAX: Duration = Duration::from_millis(4);
/// Latency of a message on a slow link.
pub const SLOW_LINK_LATENCY_MAX: Duration = Duration::from_millis(120);
/// Delay of work on a slow disk, in microseconds.
pub const SLOW_DISK_DELAY_US_MAX: u64 = 80_000;
/// Segments that a connection, and connections that a listener, hold before they are taken.
pub const TCP_CAPACITY: usize = 4_096;
/// Wall clocks of the hosts differ by so much at most.
pub const CLOCK_SKEW_MS_MAX: u64 = 400;

/// A fault lasts between these.
pub const FAULT_MS_MIN: u64 = 300;
pub const FAULT_MS_MAX: u64 = 3_500;
/// Workers are away for so many times that, so that some are away for longer than pods tolerate.
pub const WORKER_FAULT_FACTOR: u32 = 4;
/// Pause between the end of a fault and the next one of its class.
pub const FAULT_PAUSE_MS_MIN: u64 = 200;
pub const FAULT_PAUSE_MS_MAX: u64 = 2_500;
/// A planted lying disk lies for so long before the power goes.
pub const LYING_TIME: Duration = Duration::from_secs(3);

/// How often the members' state hashes are compared.
pub const STATE_HASH_INTERVAL: Duration = Duration::from_millis(400);

pub const STORE_CLIENT_PORT: u16 = 2379;
pub const STORE_PEER_PORT: u16 = 2380;
