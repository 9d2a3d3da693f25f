//! Bounds and periods, with their units.

use std::time::Duration;

pub const CLIENT_PORT: u16 = 2379;
pub const PEER_PORT: u16 = 2380;
/// A call that is not answered by then has an unknown outcome.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(5);
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// A member that was started must serve a linearizable read within this time while nothing is wrong. Far longer than
/// it needs: a slow machine is not a violation.
pub const READY_TIME_MAX: Duration = Duration::from_secs(90);
/// After the last fault, every member must serve within this time.
pub const HEAL_TIME_MAX: Duration = Duration::from_secs(120);
pub const POLL: Duration = Duration::from_millis(100);
/// A client's pause after each turn, by default: low rates, because the machine is shared.
pub const PAUSE: Duration = Duration::from_millis(150);
/// Fewer acknowledged operations of a workload say nothing.
pub const ACKNOWLEDGED_MIN: usize = 50;
/// Answers of a watch that are kept.
pub const WATCH_ANSWERS_MAX: usize = 1_000_000;
/// A gap between acknowledged writes that is shorter is not told: it is the pace of the clients.
pub const GAP_MIN: Duration = Duration::from_millis(500);
