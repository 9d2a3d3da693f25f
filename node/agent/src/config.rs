use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use keelstone_env::ServerTls;

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    pub node_name: String,
    /// The node's address; the agent's server listens on it.
    pub address: String,
    pub port: u16,
    pub labels: BTreeMap<String, String>,
    /// Pods' volumes and logs are kept below this folder.
    pub root_dir: PathBuf,
    pub pod_cidr: String,
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    /// What the node has to give.
    pub capacity: Capacity,
    /// The node's status is written at least so often, and at once when it changes.
    pub status_period: Duration,
    /// The node's lease is renewed so often.
    pub lease_renew_period: Duration,
    pub lease_duration_s: i32,
    /// The server's side: certificate, key, and the authority of those who may ask.
    pub server_tls: Option<ServerTls>,
    pub clock: AgentClock,
}

/// The agent's own periods; short in tests.
#[derive(Clone, Debug)]
pub struct AgentClock {
    pub observe_every: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub ephemeral_storage_bytes: u64,
    pub pods: usize,
}
