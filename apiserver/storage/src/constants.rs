//! Bounds of the storage layer, with their units last in the name.
use std::time::Duration;

/// The root of all keys of the API server.
pub const ROOT: &str = "/registry/";

/// How long one operation may wait for the store, all its retries together. A client has its answer (503 or
/// 504) within 10 s, so some time is left for the rest of the request.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);

/// How long one try of a store call may take, whatever the client of the store itself allows.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause between two tries of a store call that failed because there was no leader.
pub const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How many earlier states of an object are looked at to learn what became of a write whose answer got lost. Beyond that
/// its outcome is told as unknown.
pub const SETTLE_STEPS_MAX: usize = 16;

/// How long a read that names a resourceVersion may wait until the cache has reached it (kube-apiserver: 3 s).
pub const FRESHNESS_WAIT: Duration = Duration::from_secs(3);

/// How often a watch that asked for bookmarks is given one.
pub const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// How long before the end of a watch its last bookmark comes.
pub const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// How many keys one range call to the store returns at most.
pub const RANGE_PAGE_KEYS_MAX: i64 = 2_000;

/// How many tries one compare-and-set loop makes at most before it answers with a conflict.
pub const UPDATE_TRIES_MAX: usize = 64;

/// How many events a watch cache keeps for each resource. A watcher that falls behind by more is ended.
pub const WATCH_RING_EVENTS_MAX: usize = 8_192;

/// How many events a watcher takes out of the ring at once.
pub const WATCH_BATCH_EVENTS_MAX: usize = 256;

/// How many snapshots of paginated lists a cache keeps for each resource.
pub const LIST_SNAPSHOTS_MAX: usize = 4;

/// For how long such a snapshot is kept at least while there is room, and at most once others are made.
pub const LIST_SNAPSHOT_KEPT: Duration = Duration::from_secs(60);

/// How many keys share one lease at most.
pub const LEASE_KEYS_MAX: u64 = 1_000;

/// For how long new keys are attached to one lease, in seconds.
pub const LEASE_REUSE_S: i64 = 60;

/// How often old revisions are compacted, which is also how much history is kept.
pub const COMPACTION_INTERVAL: Duration = Duration::from_secs(300);

/// The largest object that may be stored, in bytes of its stored form (the store's limit is 1.5 MiB).
pub const OBJECT_BYTES_MAX: usize = 1_400_000;

/// The pauses before the feed of the caches is opened again; doubled up to the maximum.
pub const FEED_RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
pub const FEED_RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A feed that was silent for this long is compared with the store's revision.
pub const FEED_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a feed that is behind the store's revision may stay silent before it is opened again.
pub const FEED_CHECK_WAIT: Duration = Duration::from_secs(1);

/// The pause before a cache that could not be filled is filled again.
pub const FILL_RETRY_PAUSE: Duration = Duration::from_millis(200);
