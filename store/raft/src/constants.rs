//! Bounds of this crate. Reaching one has a defined answer, named beside it.

use std::time::Duration;

/// Applied bytes after which the state machine is flushed, which bounds the replay after a restart.
pub const FLUSH_BYTES: u64 = 64 << 20;
/// Time after which the state machine is flushed if anything was applied.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(30);
/// Entries that stay in the log for lagging followers; one that lags more gets a snapshot.
pub const KEPT_ENTRIES: u64 = 10_000;
/// Proposals waiting in a member; the next one is refused with `too many requests`.
pub const PROPOSALS_QUEUED_MAX: usize = 8_192;
/// Proposals that one batch carries into the log or to the leader.
pub const PROPOSALS_BATCH_MAX: usize = 1_024;
/// Bytes after which a batch of proposals is closed.
pub const PROPOSALS_BATCH_BYTES_MAX: usize = 4 << 20;
/// Batches in flight to the log or the leader; what comes meanwhile waits and makes the next one larger.
pub const PROPOSAL_BATCHES_IN_FLIGHT_MAX: usize = 2;
/// Batches on their way into the leader's log; what comes meanwhile, from all members, makes the next one larger.
pub const LOG_BATCHES_IN_FLIGHT_MAX: usize = 2;
/// Linearizable reads and keep-alives waiting for the next shared round; the next one is refused with
/// `too many requests`.
pub const READS_QUEUED_MAX: usize = 65_536;
/// How long a leader waits for as many members as it needs to confirm it, before it asks the others too.
pub const WITNESS_PATIENCE: Duration = Duration::from_millis(5);
/// Entries applied in one write batch.
pub const APPLY_BATCH_MAX: usize = 4_096;
/// Bytes of commands applied in one write batch.
pub const APPLY_BATCH_BYTES_MAX: usize = 16 << 20;
/// Entries and bytes of a batch that is applied where it is asked for; larger ones go to the blocking pool.
pub const APPLY_SHORT_ENTRIES_MAX: usize = 64;
pub const APPLY_SHORT_BYTES_MAX: usize = 256 << 10;
/// Entries in one message to a follower.
pub const APPEND_ENTRIES_MAX: u64 = 1_024;
/// Bytes of commands in one message to a follower, plus one entry.
pub const APPEND_BYTES_MAX: u64 = 4 << 20;
/// A message between members; larger ones are refused. Room for [`APPEND_BYTES_MAX`] and a large last entry.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// How long a snapshot chunk may take before the transfer is given up.
pub const SNAPSHOT_CHUNK_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a whole snapshot may take before the transfer is given up.
pub const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(600);
/// Lease expiries proposed at once. Between two batches the expiry rests as long as the last one took, so that it
/// never takes more than half of what the log can do from other traffic.
pub const LEASE_EXPIRIES_BATCH_MAX: usize = 512;
/// A leader that was frozen for longer than this (its timer came late) lets keep-alives that waited come first.
pub const PAUSE_NOTICED: Duration = Duration::from_millis(500);
/// How long it waits for them before any lease ends.
pub const PAUSE_GRACE: Duration = Duration::from_secs(1);
/// Leases given their time at once after a change of leader.
pub const LEASES_LISTED_MAX: usize = 1_024;
/// Pause before an error of the append stream is returned: openraft retries it at once.
pub const STREAM_ERROR_PAUSE: Duration = Duration::from_millis(50);
/// What this release can do. It rises with each command or format that older members do not know; a cluster
/// uses those of the lowest level among its members. What each level brings is in `features.rs`.
pub const FEATURE_LEVEL: u32 = 2;
/// How long a command waits for the cluster to reach its level; then it is `not capable`.
pub const LEVEL_TIME_MAX: Duration = Duration::from_secs(2);
/// Learners in a cluster, as etcd's default; the next one is `too many learner members in cluster`. Members on
/// their way to a vote do not count.
pub const LEARNERS_MAX: usize = 1;
/// A learner that lags by fewer entries may become a voter.
pub const PROMOTION_LAG_ENTRIES_MAX: u64 = 1_000;
/// How often the leader looks after the membership: learners that caught up, changes left half done.
pub const AUTOPILOT_INTERVAL: Duration = Duration::from_millis(200);
/// How often a member looks whether what the log says of it is right, and whether it was removed.
pub const PRESENCE_INTERVAL: Duration = Duration::from_millis(500);
/// How often the others are asked while a member waits to form a cluster.
pub const FORMATION_INTERVAL: Duration = Duration::from_millis(100);
/// How long one of them may take to answer.
pub const DESCRIBE_TIME_MAX: Duration = Duration::from_secs(1);
/// How long another holder of the data folder may take to let go before the start fails.
pub const DATA_LOCK_TIME_MAX: Duration = Duration::from_secs(3);
/// How often the leader compares the members' state hashes.
pub const STATE_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long one of them may take to answer.
pub const STATE_CHECK_TIME_MAX: Duration = Duration::from_secs(1);
/// How often a member looks whether its state was found to be damaged.
pub const QUARANTINE_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Pause before a repair that failed is tried again.
pub const REPAIR_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// A leader whose log takes longer for one write hands leadership over.
pub const SLOW_WRITE_MAX: Duration = Duration::from_secs(1);
/// How long it then waits before it tries again.
pub const BAD_DISK_REST: Duration = Duration::from_secs(5);
