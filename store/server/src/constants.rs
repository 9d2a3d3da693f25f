//! Bounds of the server. Reaching one has a defined answer, named beside it.

use std::time::Duration;

/// What `Status` and `/version` say: the etcd release whose behaviour is followed. Clients compare it (a
/// kube-apiserver asks for watch progress only from versions that are known to answer rightly).
pub const ETCD_VERSION: &str = "3.6.4";
pub const CLUSTER_VERSION: &str = "3.6.0";
/// What snapshots say: the oldest release that reads all that they hold.
pub const CLUSTER_VERSION_OF_SNAPSHOTS: &str = "3.5.0";
pub const STORAGE_VERSION: &str = "3.6.0";
/// The version before [`CLUSTER_VERSION`].
pub const DOWNGRADE_TARGET: [&str; 2] = ["3", "5"];

/// A request's command in bytes, as etcd's `--max-request-bytes`; more is `request is too large`.
pub const REQUEST_BYTES_MAX: usize = 3 << 19;
/// What gRPC may add to a request before the connection refuses it, as etcd's.
pub const GRPC_OVERHEAD_BYTES: usize = 512 << 10;

/// Requests being worked on at one time; the next one is `too many requests`.
pub const IN_FLIGHT_REQUESTS_MAX: usize = 16_384;
/// Bytes of requests being worked on at one time; the next one is `too many requests`.
pub const IN_FLIGHT_BYTES_MAX: usize = 256 << 20;
/// Entries committed but not applied; beyond, new proposals are `too many requests` (etcd's bound).
pub const APPLY_LAG_ENTRIES_MAX: u64 = 5_000;

/// A request without a quorum ends after this and twice the election time-out (etcd's rule), in
/// [`REQUEST_MS_MAX`] at most.
pub const REQUEST_BASE_MS: u64 = 5_000;
/// The API server must be able to answer its own clients within 10 s.
pub const REQUEST_MS_MAX: u64 = 7_500;
/// What a request may wait beyond that outside of the log.
pub const REQUEST_GRACE: Duration = Duration::from_millis(200);
/// A stream that asked for a leader ends after so many election time-outs without one (etcd's bound).
pub const LEADERLESS_ELECTIONS_MAX: u32 = 3;

/// Pause after a quorum did not confirm this member's view.
pub const QUORUM_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Time between progress responses of a watch that asked for them and is idle, by default.
pub const WATCH_PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
/// Responses queued for one watch stream; its watchers wait for a place.
pub const WATCH_RESPONSES_QUEUED_MAX: usize = 32;
/// Watches on one stream; the next one is refused with a cancelled response.
pub const WATCHES_PER_STREAM_MAX: usize = 65_536;
/// A response of a watch that asked for fragments is split above this.
pub const WATCH_FRAGMENT_BYTES: usize = REQUEST_BYTES_MAX;

/// Client connections served at one time; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Streams (calls in flight) of one connection; the client waits with the next one.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 4_096;
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 2 << 20;
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
pub const PEER_STREAM_WINDOW_BYTES: u32 = 8 << 20;
pub const PEER_CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// A connection whose other side does not answer a ping for `interval + timeout` is closed.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(10);
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long HTTP/1 clients may take to send a request's head.
pub const HTTP1_HEADER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long connections may take to end at shutdown.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);
/// How long the other members' calls may take to end at shutdown; they try another member anyway.
pub const PEER_DRAIN_TIME_MAX: Duration = Duration::from_millis(100);
/// How long each other member may take to take over leadership at shutdown.
pub const SHUTDOWN_TRANSFER_TIME_MAX: Duration = Duration::from_secs(1);
/// How long `MoveLeader` may take.
pub const LEADER_TRANSFER_TIME_MAX: Duration = Duration::from_secs(3);

/// How often a watch of the gRPC health service looks.
pub const HEALTH_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What one call of physical compaction may look at, and the pause between two: compaction runs beside traffic.
pub const COMPACT_STEP_BUDGET: usize = 200;
/// After a step the removal rests so many times as long as the step took: it uses a quarter of one core at most.
pub const COMPACT_REST_RATIO: u32 = 3;
/// The shortest rest.
pub const COMPACT_REST_MIN: Duration = Duration::from_millis(1);
/// How often a member looks whether there is something to compact physically.
pub const COMPACT_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Snapshots sent to clients at one time; the next one is `too many requests`.
pub const SNAPSHOTS_MAX: usize = 4;

/// Pause before a backup that failed is tried again.
pub const BACKUP_RETRY_PAUSE: Duration = Duration::from_secs(10);

/// How often a member looks at the space that it uses.
pub const SPACE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The NOSPACE alarm is cleared below so many percent of the quota.
pub const NOSPACE_CLEAR_PERCENT: u128 = 95;

/// How often the leader notes the newest revision's time, in parts of the retention, and the bounds of that.
pub const MOMENTS_PER_RETENTION: u32 = 100;
pub const MOMENT_INTERVAL_MIN: Duration = Duration::from_millis(500);
pub const MOMENT_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Auto compaction by age takes this many samples of the revision in the time that is kept, at these intervals.
pub const AUTO_COMPACTION_SAMPLES: u32 = 10;
pub const AUTO_COMPACTION_INTERVAL_MIN: Duration = Duration::from_secs(1);
pub const AUTO_COMPACTION_INTERVAL_MAX: Duration = Duration::from_secs(360);

/// No lease is shorter, however soon a leader is replaced: what etcd's default comes to.
pub const LEASE_TTL_S_MIN: i64 = 2;

/// `--election-timeout`: its bounds, as etcd's.
pub const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;
pub const HEARTBEATS_PER_ELECTION_MIN: u64 = 5;

/// How long a member that joins a running cluster looks for it before its start fails.
pub const JOIN_TIME_MAX: Duration = Duration::from_secs(30);
/// How often a member looks whether its state was found to be damaged.
pub const QUARANTINE_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Upper bounds of the request-duration histogram, in seconds.
pub const DURATION_BUCKETS_S: [f64; 13] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 8.192];

/// How long a simple token is good after its issue or last use, by default; as etcd's.
pub const AUTH_TOKEN_TTL: Duration = Duration::from_secs(300);
/// How long a JSON Web Token is good, by default; as etcd's.
pub const JWT_TTL: Duration = Duration::from_secs(300);
/// A longer token is `invalid auth token`.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Simple tokens whose last use is remembered; beyond, a token is good from its issue only.
pub const TOKENS_REMEMBERED_MAX: usize = 16_384;
/// Length of the secret that seals simple tokens.
pub const TOKEN_SECRET_BYTES: usize = 32;
/// bcrypt's cost by default, and what it takes; as etcd's.
pub const BCRYPT_COST: u32 = 10;
pub const BCRYPT_COST_MIN: u32 = 4;
pub const BCRYPT_COST_MAX: u32 = 31;
/// Passwords being hashed at one time; more wait, up to a request's time.
pub const PASSWORD_HASHES_AT_ONCE_MAX: usize = 4;
/// Tries of a password that is changed meanwhile; then `revision of auth store is old`.
pub const AUTHENTICATE_TRIES_MAX: usize = 3;

/// Calls that wait for a lock or a leadership at one time; the next one is `too many requests`.
pub const COORDINATION_WAITERS_MAX: usize = 4_096;
/// Lease of a lock or a leadership whose client brought none; as etcd's.
pub const COORDINATION_LEASE_TTL_S: i64 = 60;
