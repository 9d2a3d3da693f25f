//! A real etcd for tests: started on free ports with a folder of its own, ended with the test.

#![allow(dead_code)]
// A test bed starts processes and looks for free ports.
#![allow(clippy::disallowed_methods)]

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use keelstone_env::Env;
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions};
use tempfile::TempDir;

/// Time that a started etcd has to answer.
const START_MS_MAX: u64 = 15_000;

/// A running etcd cluster; its processes end when this is dropped.
pub struct Etcd {
    children: Vec<Child>,
    pub endpoints: Vec<String>,
    _dir: TempDir,
}

impl Etcd {
    /// Starts `members` members and waits until they answer. `None`, with the reason printed, if there is no
    /// `etcd` binary: `$ETCD`, else `/usr/bin/etcd` (Debian: `apt-get install etcd-server`).
    pub async fn start(members: usize) -> Option<Self> {
        Self::start_binary(find("ETCD", "/usr/bin/etcd")?, members).await
    }

    /// As [`Etcd::start`], with etcd 3.5 if it is there (`.ci/etcd` fetches it), else with what `start` finds.
    pub async fn start_newest(members: usize) -> Option<Self> {
        match newest("etcd") {
            Some(binary) => Self::start_binary(binary, members).await,
            None => Self::start(members).await,
        }
    }

    pub async fn start_binary(binary: PathBuf, members: usize) -> Option<Self> {
        let dir = TempDir::new().expect("a temporary folder");
        let ports = free_ports(2 * members);
        let (client, peer) = ports.split_at(members);
        let initial: Vec<String> = (0..members).map(|i| format!("m{i}=http://127.0.0.1:{}", peer[i])).collect();
        let mut children = Vec::new();
        for i in 0..members {
            let client_url = format!("http://127.0.0.1:{}", client[i]);
            let peer_url = format!("http://127.0.0.1:{}", peer[i]);
            let child = Command::new(&binary)
                .args(["--name", &format!("m{i}"), "--data-dir"])
                .arg(dir.path().join(format!("m{i}")))
                .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
                .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
                .args(["--initial-cluster", &initial.join(","), "--initial-cluster-state", "new"])
                .args(["--heartbeat-interval", "50", "--election-timeout", "500", "--unsafe-no-fsync"])
                .args(["--logger", "zap", "--log-outputs", "/dev/null", "--bcrypt-cost", "4"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            // `--unsafe-no-fsync` exists since 3.4.19; without it the binary ends at once and the wait below says so.
            children.push(child.expect("etcd starts"));
        }
        let endpoints: Vec<String> = client.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let etcd = Self { children, endpoints, _dir: dir };
        etcd.wait_until_ready().await;
        Some(etcd)
    }

    async fn wait_until_ready(&self) {
        let env = Env::os();
        let kv = GrpcKv::new(&env, GrpcKvOptions::new(self.endpoints.clone())).expect("a client");
        let ready = async {
            while !matches!(kv.status().await, Ok(status) if status.leader != 0) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_millis(START_MS_MAX), ready).await.expect("etcd answers");
    }

    /// Whether a member has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.children.iter_mut().any(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// Ends one member as a crash would.
    pub fn kill(&mut self, index: usize) {
        end(&mut self.children[index]);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.children.iter_mut().for_each(end);
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// A binary of etcd 3.5 (`etcd`, `etcdctl`, `etcdutl`) in the folder `$ETCD35`, which `.ci/etcd` prints.
pub fn newest(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("ETCD35")?);
    Some(folder.join(name)).filter(|path| path.exists())
}

/// The binary named by the variable, else the default path; `None`, said on the output, if it is not there.
pub fn find(variable: &str, default: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from);
    if path.exists() {
        return Some(path);
    }
    println!("SKIPPED: {} is missing (set ${variable})", path.display());
    None
}

/// Ports that were free a moment ago.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}
