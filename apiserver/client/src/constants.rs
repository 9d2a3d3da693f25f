//! Bounds and periods of this crate.

/// A response body that is not a watch or a log may be this large.
pub const RESPONSE_BYTES_MAX: usize = 256 << 20;
/// One watch event (one line) may be this large: the API server's largest object, encoded in JSON, with room.
pub const WATCH_LINE_BYTES_MAX: usize = 16 << 20;
/// Objects asked for in one page of a list.
pub const LIST_PAGE_ITEMS: u32 = 500;
/// A request that is not a watch ends after this long, whatever happens.
pub const REQUEST_MS_MAX: u64 = 30_000;
/// A watch without any event or bookmark for this long is taken for dead. The API server sends a bookmark
/// each minute.
pub const WATCH_IDLE_MS_MAX: u64 = 95_000;
/// Dialling and the TLS handshake together.
pub const CONNECT_MS_MAX: u64 = 1_500;
/// Without HTTP/2 pings a read that is unanswered for this long is tried on the next master.
pub const READ_ATTEMPT_MS_MAX: u64 = 12_000;
/// An HTTP/2 ping goes out so often ...
pub const PING_INTERVAL_MS: u64 = 1_000;
/// ... and a peer that does not answer it in this time is taken for frozen.
pub const PING_TIMEOUT_MS: u64 = 1_500;
/// Idle HTTP/1.1 connections kept to one master.
pub const IDLE_CONNECTIONS_MAX: usize = 16;
/// Rounds over all masters before a request that reached none of them fails.
pub const ROUNDS_MAX: usize = 2;
/// The pause between two rounds.
pub const ROUND_PAUSE_MS: u64 = 200;
/// A request answered with 429 is repeated at most so often.
pub const THROTTLE_RETRIES_MAX: u32 = 5;
/// The longest pause that a 429's Retry-After is honoured for.
pub const RETRY_AFTER_S_MAX: u64 = 10;
/// Events that one subscriber of a store may be behind before it is told to resync.
pub const SUBSCRIPTION_EVENTS_MAX: usize = 4_096;
/// Informer back-off after a failed list or watch.
pub const RELIST_BACKOFF_MS_MIN: u64 = 200;
pub const RELIST_BACKOFF_MS_MAX: u64 = 5_000;
/// A watch asks the server to end it after this many seconds, plus up to as many again at random.
pub const WATCH_TIMEOUT_S_MIN: u64 = 300;
/// Events waiting to be written to the API; more are dropped (and counted).
pub const EVENT_QUEUE_MAX: usize = 1_000;
/// Different events remembered for aggregation.
pub const EVENT_SERIES_MAX: usize = 4_096;
/// An event repeated within this time raises the count of the first instead of making another.
pub const EVENT_SERIES_S_MAX: u64 = 600;
/// A caller that gave up after this long without an answer makes the transport leave that master.
pub const FROZEN_SUSPECT_MS: u64 = 5_000;
/// HTTP/2 flow control: what one response, and all of a connection, may have under way.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
pub const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// The current master's /readyz is asked so often, if there is a choice of masters.
pub const PROBE_INTERVAL_MS: u64 = 2_000;
pub const PROBE_TIMEOUT_MS: u64 = 2_000;
/// So many failed probes in a row make the transport look for another master.
pub const PROBE_FAILURES_MIN: u32 = 2;
