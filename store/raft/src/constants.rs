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
/// Lease expiries proposed at once.
pub const LEASE_EXPIRIES_BATCH_MAX: usize = 512;
/// Pause before an error of the append stream is returned: openraft retries it at once.
pub const STREAM_ERROR_PAUSE: Duration = Duration::from_millis(50);
