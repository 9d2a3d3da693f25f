//! What the rows do, in numbers.

use std::time::Duration;

/// Connections that the clients of one row share, for each member.
pub const CONNECTIONS_PER_MEMBER: usize = 8;
/// Keys that puts, txns and single reads go to.
pub const KEYS: u64 = 10_000;
pub const VALUE_BYTES: usize = 256;
/// Keys and values that are listed page by page.
pub const LISTED_KEYS: u64 = 2_500;
pub const LISTED_VALUE_BYTES: usize = 1_024;
pub const PAGE_KEYS: i64 = 500;
/// Watchers, and puts a second while they watch.
pub const WATCHERS: usize = 100;
pub const WATCHED_PUTS_PER_S: u64 = 500;
/// Puts a second while something else goes on.
pub const BESIDE_PUTS_PER_S: u64 = 500;
/// Between two moves of leadership.
pub const LEADER_MOVE_INTERVAL: Duration = Duration::from_secs(2);
/// A row, or a whole part of the table, that takes longer is given up; the others are measured all the same.
pub const ROW_TIME_MAX: Duration = Duration::from_secs(120);
pub const PART_TIME_MAX: Duration = Duration::from_secs(900);
/// How long a member may take to serve after its start, a large one too.
pub const START_TIME_MAX: Duration = Duration::from_secs(120);
/// How long a member may take to end after SIGTERM.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(30);
/// A call that takes longer counts as failed.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(20);
/// Before a row is measured, so that caches and connections are warm.
pub const WARM_UP: Duration = Duration::from_millis(300);
/// HTTP/2 windows of the generator's connections.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// A large answer is taken; neither system is limited by its client.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;
