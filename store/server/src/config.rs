use std::{path::PathBuf, time::Duration};

use keelstone_env::{ClientTls, ServerTls, TlsFiles};
use keelstone_mvcc::constants::QUOTA_BYTES_DEFAULT;
use keelstone_raft::{Limits, Timing};

use crate::{auto_compaction::AutoCompaction, constants::*, StoreError};

/// One member of the cluster at its first start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    pub name: String,
    /// `http://host:port` or `https://host:port`.
    pub peer_url: String,
}

impl InitialMember {
    /// Reads `name=url,name=url,...`, as etcd's `--initial-cluster`.
    ///
    /// # Errors
    /// [`StoreError::Config`] naming the part that cannot be read.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, StoreError> {
        text.split(',')
            .map(|part| match part.trim().split_once('=') {
                Some((name, url)) if !name.is_empty() && !url.is_empty() => {
                    Ok(Self { name: name.to_owned(), peer_url: url.to_owned() })
                }
                _ => Err(StoreError::Config(format!("initial cluster: {part:?} is not name=url"))),
            })
            .collect()
    }
}

/// TLS between members.
#[derive(Clone, Debug)]
pub struct PeerTls {
    pub server: ServerTls,
    pub client: ClientTls,
}

/// A listener beside the first one for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoreListener {
    /// `host:port`
    pub address: String,
    /// With the TLS of `client_tls`; plaintext without.
    pub tls: bool,
    /// Health and metrics alone.
    pub metrics_only: bool,
}

/// How one member of the store runs.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// This member's name; one of `initial_cluster`.
    pub name: String,
    /// Tells clusters apart that have the same peer URLs.
    pub cluster_token: String,
    /// All first members, this one included; the same list on each of them.
    pub initial_cluster: Vec<InitialMember>,
    /// Form the cluster if this member's log is empty. False for a member that is added to a running cluster.
    pub bootstrap: bool,
    pub data_dir: PathBuf,
    /// `host:port`; port 0 takes a free one.
    pub listen_client: String,
    /// With the TLS of `client_tls`, if that is there; plaintext without.
    pub listen_client_tls: bool,
    pub more_listeners: Vec<MoreListener>,
    /// `host:port`; the port of this member's peer URL unless something forwards to it.
    pub listen_peer: String,
    /// A plaintext listener for health and metrics alone; they are always served on the client listener too.
    pub listen_metrics: Option<String>,
    /// What `MemberList` says about this member; the client listener's address if empty.
    pub advertise_client_urls: Vec<String>,
    /// TLS towards clients; plaintext without.
    pub client_tls: Option<ServerTls>,
    /// TLS between members; plaintext without.
    pub peer_tls: Option<PeerTls>,
    /// Where `client_tls` comes from, if from files: they are read again when they change.
    pub client_tls_files: Option<TlsFiles>,
    /// The same for both sides of `peer_tls`.
    pub peer_tls_files: Option<TlsFiles>,
    /// Learners that have caught up become voters by themselves.
    pub promote_learners: bool,
    /// What this member says it can do: that of this release, but in tests of upgrades.
    pub feature_level: u32,
    pub timing: Timing,
    pub limits: Limits,
    /// Writes beyond so many bytes are refused with `database space exceeded`; 0 = no quota.
    pub quota_bytes: u64,
    /// History younger than this survives compactions: they are held back to what is older. The same on all
    /// members.
    pub history_retention: Option<Duration>,
    pub txn_ops_max: usize,
    pub request_bytes_max: usize,
    pub watch_progress_interval: Duration,
    /// Events that are kept in memory for watchers, at least 1; older ones are read from the store.
    pub watch_window_events_max: usize,
    /// Events that a watcher is given at once, at least 1; the events of one revision stay together.
    pub watch_batch_events_max: usize,
    /// A continuous backup of this member's state, if it is wanted.
    pub backup: Option<keelstone_backup::archive::RecorderOptions>,
    /// `None`: only clients compact.
    pub auto_compaction: Option<AutoCompaction>,
    /// As etcd's `--auth-token`: `simple`, or `jwt,pub-key=FILE,priv-key=FILE,sign-method=METHOD,ttl=DURATION`
    /// (HS, RS and PS with 256, 384 or 512, ES256, EdDSA). The same on every member.
    pub auth_token: String,
    /// How long a simple token is good after its issue or last use.
    pub auth_token_ttl: Duration,
    /// Cost of hashing a password, as bcrypt counts it: each step doubles the time.
    pub bcrypt_cost: u32,
}

impl StoreConfig {
    /// The usual settings of the member `name` of `initial_cluster`, on its peer URL's port and a free
    /// client port on the loopback address.
    pub fn new(name: &str, initial_cluster: Vec<InitialMember>, data_dir: impl Into<PathBuf>) -> Self {
        let own = initial_cluster.iter().find(|member| member.name == name);
        let listen_peer = own.and_then(|m| crate::identity::host_port(&m.peer_url)).unwrap_or_default();
        Self {
            name: name.to_owned(),
            cluster_token: "keelstone".into(),
            initial_cluster,
            bootstrap: true,
            data_dir: data_dir.into(),
            listen_client: "127.0.0.1:0".into(),
            listen_client_tls: true,
            more_listeners: Vec::new(),
            listen_peer,
            listen_metrics: None,
            advertise_client_urls: Vec::new(),
            client_tls: None,
            peer_tls: None,
            client_tls_files: None,
            peer_tls_files: None,
            promote_learners: true,
            feature_level: keelstone_raft::constants::FEATURE_LEVEL,
            timing: Timing::default(),
            limits: Limits::default(),
            quota_bytes: QUOTA_BYTES_DEFAULT,
            history_retention: None,
            txn_ops_max: keelstone_mvcc::constants::TXN_OPS_MAX,
            request_bytes_max: REQUEST_BYTES_MAX,
            watch_progress_interval: WATCH_PROGRESS_INTERVAL,
            watch_window_events_max: keelstone_mvcc::constants::WATCH_WINDOW_EVENTS_MAX,
            watch_batch_events_max: keelstone_mvcc::constants::WATCH_BATCH_EVENTS_MAX,
            backup: None,
            auto_compaction: None,
            auth_token: "simple".into(),
            auth_token_ttl: AUTH_TOKEN_TTL,
            bcrypt_cost: BCRYPT_COST,
        }
    }

    /// How long a request may wait for a quorum.
    pub(crate) fn request_time_max(&self) -> Duration {
        let wanted = Duration::from_millis(REQUEST_BASE_MS) + 2 * self.timing.election_timeout();
        wanted.min(Duration::from_millis(REQUEST_MS_MAX))
    }

    /// The shortest lease: one and a half election time-outs, in whole seconds, as etcd's; never shorter than with
    /// etcd's default, which clients count on.
    pub(crate) fn lease_ttl_s_min(&self) -> i64 {
        let ms = 3 * self.timing.election_timeout().as_millis() / 2;
        i64::try_from(ms.div_ceil(1000)).unwrap_or(i64::MAX).max(LEASE_TTL_S_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_cluster_is_read_or_refused_by_name() {
        let list = InitialMember::parse_list("a=http://h1:2380, b=http://h2:2380").unwrap();
        assert_eq!(list[1], InitialMember { name: "b".into(), peer_url: "http://h2:2380".into() });
        let error = InitialMember::parse_list("a=http://h1:2380,nonsense").unwrap_err();
        assert!(error.to_string().contains("nonsense"));
        assert!(InitialMember::parse_list("").is_err());
    }

    #[test]
    fn requests_end_within_the_bound() {
        let mut config = StoreConfig::new("a", vec![], "/nowhere");
        assert!(config.request_time_max() <= Duration::from_millis(REQUEST_MS_MAX));
        config.timing = Timing::new(Duration::from_secs(50), Duration::from_secs(5));
        assert_eq!(config.request_time_max(), Duration::from_millis(REQUEST_MS_MAX));
        assert_eq!(config.lease_ttl_s_min(), 75);
        config.timing = Timing::new(Duration::from_millis(1000), Duration::from_millis(100));
        assert_eq!(config.lease_ttl_s_min(), 2);
    }
}
