//! Bounds of a run. Times are simulated unless a name says otherwise.

use std::time::Duration;

/// Client operations that a run does at least.
pub const OPERATIONS_MIN: usize = 500;
/// Fault kinds that fire in a run at least.
pub const FAULT_KINDS_MIN: usize = 2;
/// The load goes on for so long at least.
pub const SAFETY_TIME_MIN: Duration = Duration::from_secs(14);
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
/// Latency of a message on a slow link, in milliseconds.
pub const SLOW_LINK_LATENCY_MS_MAX: u64 = 120;
/// Delay of work on a slow disk, in microseconds.
pub const SLOW_DISK_DELAY_US_MAX: u64 = 80_000;
/// A clock is set forward or back by so much at most.
pub const CLOCK_JUMP_MS_MAX: u64 = 5_000;
/// A wall clock gains or loses so much at most.
pub const CLOCK_DRIFT_PPM_MAX: u64 = 20_000;
/// Timers gain so many milliseconds in 200 ms at most, and up to a tick more: 2 %.
pub const FAST_TIMERS_MS_MAX: u64 = 2;
/// Segments that a connection, and connections that a listener, hold before they are taken.
pub const TCP_CAPACITY: usize = 4_096;
/// Wall clocks of the hosts differ by so much at most.
pub const CLOCK_SKEW_MS_MAX: u64 = 400;

/// A fault lasts between these.
pub const FAULT_MS_MIN: u64 = 300;
pub const FAULT_MS_MAX: u64 = 3_500;
/// Workers are away for so many times that, so that some are away for longer than pods tolerate.
pub const WORKER_FAULT_FACTOR: u64 = 4;
/// No fault begins before this.
pub const FAULTS_BEGIN_MS: u64 = 1_500;
/// No fault begins after this.
pub const FAULTS_TIME_MAX: Duration = Duration::from_secs(60);
/// A process that ended by itself, or whose power was cut, is started again after this.
pub const RESTART_PAUSE: Duration = Duration::from_millis(700);
/// One whose disk is damaged, after this.
pub const DAMAGED_RESTART_PAUSE: Duration = Duration::from_secs(5);
/// A process may still end because of its disk so long after the disk's last fault.
pub const EXCUSED_AFTER_DISK_FAULT: Duration = Duration::from_secs(15);
/// Orders of the fault injector that wait in a member.
pub const ORDERS_QUEUED_MAX: usize = 4;
/// Pause between the end of a fault and the next one of its class.
pub const FAULT_PAUSE_MS_MIN: u64 = 200;
pub const FAULT_PAUSE_MS_MAX: u64 = 2_500;
/// When planted lying disks begin, and for how long they lie before the power goes.
pub const LYING_BEGINS_MS: u64 = 7_000;
pub const LYING_MS: u64 = 3_000;

/// Clients of the store pause together at the end of each such period, if the seed wants it.
pub const LULL_PERIOD: Duration = Duration::from_secs(3);
/// Some seeds let their faults last for so many times as long.
pub const LONG_FAULT_FACTOR: u64 = 3;

/// How often the members' state hashes are compared.
pub const STATE_HASH_INTERVAL: Duration = Duration::from_millis(400);

pub const STORE_CLIENT_PORT: u16 = 2379;
pub const STORE_PEER_PORT: u16 = 2380;
