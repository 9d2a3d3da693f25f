//! The bounds of the API server.

use std::time::Duration;

/// The largest request body.
pub const REQUEST_BYTES_MAX: usize = 3 * 1024 * 1024;
/// A request that is neither a watch nor a followed log ends within this time.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests in flight that only read, and that may write; more are answered with 429.
pub const READS_IN_FLIGHT_MAX: usize = 400;
pub const WRITES_IN_FLIGHT_MAX: usize = 200;
/// What a 429 answer tells clients to wait.
pub const RETRY_AFTER_S: u32 = 1;
/// Connections that are served at once; more wait to be accepted.
pub const CONNECTIONS_MAX: usize = 4096;
/// A TLS handshake ends within this time.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that has begun a request sends its head within this time.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// HTTP/2 connections are pinged when they rest this long, and closed when no answer comes.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);
/// HTTP/2 requests that one connection has open.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1000;
/// The Warning headers of one response, and the bytes of all of them.
pub const WARNINGS_MAX: usize = 64;
pub const WARNING_BYTES_MAX: usize = 4096;
/// How long a readiness check waits for the store.
pub const READY_CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a stopping server waits for requests that are under way.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the `kubernetes` Service's endpoints and this master's identity lease are looked after.
pub const IDENTITY_INTERVAL: Duration = Duration::from_secs(2);
/// A master whose identity lease is older than this is taken out of the `kubernetes` Service.
pub const IDENTITY_TTL_S: i64 = 10;
/// How often what must exist is looked for again (namespaces, roles, the allocation of addresses and ports).
pub const REPAIR_INTERVAL: Duration = Duration::from_secs(180);
/// Pauses between attempts at the first start, while the store has no quorum yet.
pub const BOOTSTRAP_RETRY: Duration = Duration::from_millis(500);
/// An address or port whose service is not seen this long after the allocation is given back.
pub const ALLOCATION_GRACE_S: i64 = 60;
/// Addresses or ports that are tried at random before all are gone through in order.
pub const ALLOCATION_TRIES_MAX: usize = 64;
/// A connection to a node's agent is made within this time.
pub const NODE_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The port of a node's agent when its status names none.
pub const NODE_PORT_DEFAULT: u16 = 10250;
/// The Kubernetes release whose API this is.
pub const VERSION_MAJOR: &str = "1";
pub const VERSION_MINOR: &str = "37";
/// Build metadata rather than a pre-release, so that `>= 1.37.0` holds for those who compare versions.
pub const GIT_VERSION: &str = "v1.37.0+keelstone";
/// A watch that names no timeout ends after a random time between these.
pub const WATCH_TIMEOUT_MIN: Duration = Duration::from_secs(1800);
pub const WATCH_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// The longest time of a rule that disturbs requests, in milliseconds.
pub const PERTURBATION_MS_MAX: u64 = 60_000;
/// Rules of a plan that disturbs requests.
pub const PERTURBATION_RULES_MAX: usize = 256;
/// Users whose requests are disturbed and observed; more are left alone.
pub const ACTORS_MAX: usize = 1024;
/// Views of one user that are kept; the oldest are forgotten.
pub const VIEWS_PER_ACTOR_MAX: usize = 64;
/// Objects of one user whose last sent state is kept; the oldest are forgotten.
pub const KNOWN_OBJECTS_MAX: usize = 1024;
/// Events of one watch that are held back at once; a watch that is further behind waits.
pub const HELD_EVENTS_MAX: usize = 1024;
/// Writes of observed users that are kept; the oldest are forgotten.
pub const WRITE_RECORDS_MAX: usize = 4096;
/// Changes that a record of a write on stale knowledge shows; all are counted.
pub const MISSED_SHOWN_MAX: usize = 16;
/// Old revisions that are remembered with their time, and how far they are apart.
pub const STALENESS_SAMPLES_MAX: usize = 1200;
pub const STALENESS_SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
/// How long the next change of a view is waited for that must be there already.
pub const JUDGE_WAIT: Duration = Duration::from_millis(50);
