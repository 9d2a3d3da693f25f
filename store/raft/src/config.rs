use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use keelstone_env::{ClientTls, TlsFiles};

/// A member as the membership entry of the log describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberInfo {
    pub name: String,
    /// Where the other members reach it: `host:port`.
    pub peer_address: String,
    /// What `MemberList` answers.
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    /// What the member can do, as it said itself; 0 before it has started once.
    pub level: u32,
    /// A learner that becomes a voter as soon as it has caught up.
    pub wants_vote: bool,
}

impl MemberInfo {
    /// Whether the member has ever taken part.
    pub(crate) fn has_started(&self) -> bool {
        self.level > 0 || !self.name.is_empty()
    }
}

/// How one member takes part in its cluster.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// This member's id; never 0.
    pub id: u64,
    /// Calls from a member of another cluster are refused.
    pub cluster_id: u64,
    /// The log lies in `<data_dir>/wal`, snapshots being received in `<data_dir>/incoming`.
    pub data_dir: PathBuf,
    /// The first members, the same on each of them. Once the cluster exists, the log knows better.
    pub members: BTreeMap<u64, MemberInfo>,
    /// Form the cluster from `members` if this member's log is empty. False for one that joins later.
    pub bootstrap: bool,
    /// What this member says of itself once it takes part.
    pub name: String,
    pub client_urls: Vec<String>,
    /// The highest feature level that this member can do; [`crate::constants::FEATURE_LEVEL`] but in tests.
    pub level: u32,
    /// Learners that have caught up become voters by themselves.
    pub promote_learners: bool,
    pub timing: Timing,
    pub limits: Limits,
    /// TLS towards the other members; plaintext without.
    pub peer_tls: Option<ClientTls>,
    /// Where `peer_tls` comes from, if from files: they are read again when they change.
    pub peer_tls_files: Option<TlsFiles>,
}

/// The clocks of elections. Nobody votes against a leader for `election_max` after it was last heard (its
/// lease); a follower then waits a random time between `election_min` and `election_max` longer. So
/// [`Timing::election_timeout`] is the longest silence; then votes are exchanged twice (pre-vote and vote).
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
    /// A proposal or a linearizable read without an answer for so long ends in an error.
    pub request_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
            request_max: Duration::from_secs(5),
        }
    }
}

impl Timing {
    /// Splits what etcd calls the election time-out: one half is the leader's lease, the other bounds the
    /// random wait. `heartbeat` must be shorter than a quarter of it.
    pub fn new(election_timeout: Duration, heartbeat: Duration) -> Self {
        Self { heartbeat, election_min: election_timeout / 4, election_max: election_timeout / 2, ..Self::default() }
    }

    /// The longest silence of a leader before a follower stands for election.
    pub fn election_timeout(&self) -> Duration {
        2 * self.election_max
    }
}

/// Bounds that tests set lower than [`Limits::default`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Applied bytes after which the state machine is flushed.
    pub flush_bytes: u64,
    /// Time after which the state machine is flushed if anything was applied.
    pub flush_interval: Duration,
    /// Entries kept for lagging followers when the log is purged.
    pub kept_entries: u64,
    pub segment_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flush_bytes: crate::constants::FLUSH_BYTES,
            flush_interval: crate::constants::FLUSH_INTERVAL,
            kept_entries: crate::constants::KEPT_ENTRIES,
            segment_bytes_max: keelstone_wal::SEGMENT_BYTES_MAX,
        }
    }
}

impl RaftConfig {
    /// The usual settings of a member that forms a cluster with `members`.
    pub fn new(id: u64, cluster_id: u64, data_dir: impl Into<PathBuf>, members: BTreeMap<u64, MemberInfo>) -> Self {
        Self {
            id,
            cluster_id,
            data_dir: data_dir.into(),
            name: members.get(&id).map(|member| member.name.clone()).unwrap_or_default(),
            client_urls: Vec::new(),
            level: crate::constants::FEATURE_LEVEL,
            promote_learners: true,
            members,
            bootstrap: true,
            timing: Timing::default(),
            limits: Limits::default(),
            peer_tls: None,
            peer_tls_files: None,
        }
    }
}
