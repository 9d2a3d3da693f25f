//! Bounds of the gRPC client.

/// A call ends with an answer or an error within this time, retries included. The API server must answer its
/// own clients within 10 s, so this leaves it the time to say what went wrong.
pub const REQUEST_MS_MAX: u64 = 7_500;

/// One attempt of a read, which may be tried on another member.
pub const READ_ATTEMPT_MS_MAX: u64 = 2_000;

/// When an attempt has no answer after this, its member is asked for a sign of life; without one within
/// [`PROBE_MS_MAX`] the attempt ends. So a frozen member costs a call the sum of both.
pub const PATIENCE_MS: u64 = 500;
pub const PROBE_MS_MAX: u64 = 700;
/// How often all members are looked at: who answers, and who leads.
pub const PROBE_INTERVAL_MS: u64 = 1_000;

/// Time for a watch to be confirmed by one member.
pub const WATCH_OPEN_ATTEMPT_MS_MAX: u64 = 2_000;

/// Pause after every member was tried once; it doubles up to [`BACKOFF_MS_MAX`].
pub const BACKOFF_MS_MIN: u64 = 25;
pub const BACKOFF_MS_MAX: u64 = 400;

/// etcd closes a connection whose HTTP/2 pings come more often than every 5 s.
pub const KEEP_ALIVE_INTERVAL_MS: u64 = 5_500;
pub const KEEP_ALIVE_TIMEOUT_MS: u64 = 2_000;
pub const CONNECT_TIMEOUT_MS: u64 = 1_000;

/// Requests that a watch stream holds before its task takes them (the create request, progress requests).
pub const WATCH_REQUESTS_MAX: usize = 16;

/// Times that one attempt asks for a new token because its own was refused.
pub const TOKEN_RENEWALS_MAX: usize = 2;
