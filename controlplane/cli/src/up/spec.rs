//! What a cluster on one machine is made of; kept in `cluster.json`, so that a second `up` finds the same
//! ports and data.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Masters and workers of one machine's cluster are so many at the most.
pub const MASTERS_MAX: usize = 7;
pub const WORKERS_MAX: usize = 50;

/// The format of `cluster.json`.
const VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterSpec {
    pub version: u32,
    /// Every address but the workers' is on this one.
    pub host: IpAddr,
    pub balancer_port: u16,
    pub masters: Vec<MasterSpec>,
    pub workers: Vec<WorkerSpec>,
    /// `cri`, `process` or `hollow`, as decided at the first start.
    pub runtime: String,
    pub timings: Timings,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MasterSpec {
    pub name: String,
    pub api_port: u16,
    pub store_client_port: u16,
    pub store_peer_port: u16,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerSpec {
    pub name: String,
    pub address: IpAddr,
    pub agent_port: u16,
    pub pod_cidr: String,
}

/// The periods that decide how fast failures are acted upon, in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    pub node_monitor_grace_period_s: u64,
    pub node_monitor_period_s: u64,
    pub eviction_toleration_s: u64,
    pub node_status_period_s: u64,
    pub leader_lease_s: u64,
    pub leader_renew_deadline_s: u64,
    pub leader_retry_s: u64,
}

impl Timings {
    /// Kubernetes' defaults.
    pub const DEFAULT: Self = Self {
        node_monitor_grace_period_s: 50,
        node_monitor_period_s: 5,
        eviction_toleration_s: 300,
        node_status_period_s: 10,
        leader_lease_s: 15,
        leader_renew_deadline_s: 10,
        leader_retry_s: 2,
    };

    /// Short ones, for one machine and for people who watch.
    pub const FAST: Self = Self {
        node_monitor_grace_period_s: 8,
        node_monitor_period_s: 1,
        eviction_toleration_s: 5,
        node_status_period_s: 2,
        leader_lease_s: 4,
        leader_renew_deadline_s: 3,
        leader_retry_s: 1,
    };
}

/// What `up` was asked for.
pub struct Wanted {
    pub masters: usize,
    pub workers: usize,
    /// 0: any free port.
    pub port: u16,
    pub runtime: String,
    pub timings: Timings,
}

impl ClusterSpec {
    fn file(dir: &Path) -> PathBuf {
        dir.join("cluster.json")
    }

    /// Reads the cluster that was made in `dir`; `None` if there is none.
    pub fn load(dir: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(Self::file(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let spec: Self = serde_json::from_str(&text)?;
        if spec.version != VERSION {
            let said = format!("{} is of version {}, not {VERSION}", Self::file(dir).display(), spec.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, said));
        }
        Ok(Some(spec))
    }

    pub fn save(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(Self::file(dir), serde_json::to_string_pretty(self)?)
    }

    /// Plans a new cluster on free ports.
    pub fn plan(wanted: &Wanted) -> io::Result<Self> {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        // Held together, so that no port is given out twice.
        let mut held = Vec::new();
        let mut free = |address: IpAddr, port: u16| -> io::Result<u16> {
            let listener = TcpListener::bind(SocketAddr::new(address, port))?;
            let port = listener.local_addr()?.port();
            held.push(listener);
            Ok(port)
        };
        let balancer_port = free(host, wanted.port)?;
        let mut masters = Vec::new();
        for i in 1..=wanted.masters {
            masters.push(MasterSpec {
                name: format!("m{i}"),
                api_port: free(host, 0)?,
                store_client_port: free(host, 0)?,
                store_peer_port: free(host, 0)?,
            });
        }
        let mut workers = Vec::new();
        for i in 1..=wanted.workers {
            let last = u8::try_from(10 + i).map_err(io::Error::other)?;
            let address = IpAddr::V4(Ipv4Addr::new(127, 0, 10, last));
            let agent_port = free(address, 0)?;
            workers.push(WorkerSpec {
                name: format!("w{i}"),
                address,
                agent_port,
                pod_cidr: format!("10.88.{last}.0/24"),
            });
        }
        let (runtime, timings) = (wanted.runtime.clone(), wanted.timings.clone());
        Ok(Self { version: VERSION, host, balancer_port, masters, workers, runtime, timings })
    }

    pub fn api_addresses(&self) -> Vec<String> {
        self.masters.iter().map(|m| format!("{}:{}", self.host, m.api_port)).collect()
    }

    pub fn balancer_address(&self) -> String {
        format!("{}:{}", self.host, self.balancer_port)
    }

    /// `m1=127.0.0.1:2380,...`: names and peer addresses of the store's members.
    pub fn initial_cluster(&self) -> String {
        let members: Vec<String> =
            self.masters.iter().map(|m| format!("{}={}:{}", m.name, self.host, m.store_peer_port)).collect();
        members.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_out_twice() {
        let wanted = Wanted { masters: 7, workers: 5, port: 0, runtime: "hollow".into(), timings: Timings::FAST };
        let spec = ClusterSpec::plan(&wanted).unwrap();
        let mut ports: Vec<u16> = vec![spec.balancer_port];
        for m in &spec.masters {
            ports.extend([m.api_port, m.store_client_port, m.store_peer_port]);
        }
        let count = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count);
    }
}
