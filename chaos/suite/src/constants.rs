//! Bounds and periods, with their units.

use std::time::Duration;

/// One write each so often, as the issue of the failover figures has it.
pub const WRITE_EVERY: Duration = Duration::from_millis(20);
/// Reads and writes go on within this time after the leading master was killed.
pub const FAILOVER_MAX: Duration = Duration::from_secs(3);
/// Without a quorum every request has ended within this time.
pub const NO_QUORUM_ANSWER_MAX: Duration = Duration::from_secs(10);
/// One request of the suite's own clients.
pub const REQUEST_MAX: Duration = Duration::from_secs(12);
/// A kubectl command that takes longer is killed.
pub const KUBECTL_MAX: Duration = Duration::from_secs(60);
/// Everything that is waited for must have happened within this time.
pub const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How often a condition is looked at again.
pub const POLL: Duration = Duration::from_millis(200);
/// `keelstone up` must have ended by then.
pub const UP_MAX: Duration = Duration::from_secs(150);
/// The image that `keelstone up` makes from busybox.
pub const IMAGE: &str = "keelstone.local/busybox:1";
