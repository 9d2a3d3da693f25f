//! Bounds and periods, with their units.

use std::time::Duration;

/// A connection, TLS included, is made within this time.
pub const CONNECT_MAX: Duration = Duration::from_secs(2);
/// An answer's body, and one line of a watch.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
pub const API_PORT: u16 = 6443;
pub const AGENT_PORT: u16 = 10_250;
/// A call that is not answered by then has an unknown outcome.
pub const CALL_MAX: Duration = Duration::from_secs(5);
/// After the last fault was healed, everything must be as it was asked for within this time.
pub const CONVERGE_MAX: Duration = Duration::from_secs(120);
/// All nodes of a new cluster are Ready by then.
pub const NODES_READY_MAX: Duration = Duration::from_secs(60);
/// How often a condition is looked at again.
pub const POLL: Duration = Duration::from_millis(200);
/// Events of one mirror that are kept.
pub const MIRROR_EVENTS_MAX: usize = 1_000_000;
/// The image that `keelstone` makes from busybox; the `process` runtime looks commands up on the host.
pub const IMAGE: &str = "keelstone.local/busybox:1";
