//! Whole masters (`keelstone server`) on the members' hosts, and node agents on the workers'.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use keelstone_agent::containerd::Containerd;
use keelstone_chaos_bed::{constants::host_address, Failure, Host, Launch, Outcome};
use keelstone_chaos_store::{
    constants::{CLIENT_PORT, PEER_PORT},
    target::{files_in, manifests, Part, Target},
};
use keelstone_env::{ClientTls, Env, TlsConnector};
use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use crate::{
    constants::{AGENT_PORT, API_PORT},
    http_client::{Access, Endpoint},
    pki::Pki,
    processes::kill_containers,
};

/// The periods that decide how soon a failure is acted upon, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Timings {
    pub node_grace_s: u64,
    pub node_period_s: u64,
    pub toleration_s: u64,
    pub node_status_s: u64,
    pub leader_lease_s: u64,
    pub leader_renew_s: u64,
    pub leader_retry_s: u64,
}

impl Timings {
    /// Short ones, so that a run sees many losses.
    pub const FAST: Self = Self {
        node_grace_s: 8,
        node_period_s: 1,
        toleration_s: 5,
        node_status_s: 2,
        leader_lease_s: 4,
        leader_renew_s: 3,
        leader_retry_s: 1,
    };

    /// Kubernetes'.
    pub const DEFAULT: Self = Self {
        node_grace_s: 50,
        node_period_s: 5,
        toleration_s: 300,
        node_status_s: 10,
        leader_lease_s: 15,
        leader_renew_s: 10,
        leader_retry_s: 2,
    };

    /// How long a worker must be away until its pods are certainly elsewhere, in seconds.
    pub fn loss_s(&self) -> u64 {
        self.node_grace_s + self.toleration_s + self.slack_s() + 3
    }

    /// How much later than the grace or the toleration is still soon enough, in seconds.
    pub fn slack_s(&self) -> u64 {
        self.node_period_s + self.node_status_s + 8
    }
}

#[derive(Debug)]
pub struct WholeTarget {
    program: PathBuf,
    /// `process` or `cri`.
    runtime: String,
    members: usize,
    timings: Timings,
    /// Short-lived: keys, containerd's folders.
    work: PathBuf,
    pki: PathBuf,
    store: Connector,
    containerds: Mutex<BTreeMap<String, Child>>,
}

/// A [`TlsConnector`] that can be shown.
struct Connector(Arc<dyn TlsConnector>);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TLS of the store")
    }
}

fn api_address(i: usize) -> String {
    format!("{}:{API_PORT}", host_address(i))
}

impl WholeTarget {
    /// Makes the keys of so many masters and workers below `work`, and the ways to the masters' API.
    ///
    /// # Errors
    /// The program is not there, or a file cannot be written.
    pub fn prepare(
        program: &Path,
        runtime: &str,
        members: usize,
        workers: usize,
        timings: Timings,
        work: &Path,
    ) -> Outcome<(Self, BTreeMap<String, Endpoint>)> {
        if !["process", "cri"].contains(&runtime) {
            return Err(Failure::impossible(format!("unknown runtime {runtime:?}: process or cri")));
        }
        if runtime == "cri" {
            keelstone_agent::containerd::usable().map_err(|why| Failure::impossible(format!("containerd: {why}")))?;
        }
        let pki = Pki::make(&work.join("pki"))?;
        let masters: Vec<(String, String)> = (0..members).map(|i| (format!("m{}", i + 1), api_address(i))).collect();
        for (i, (name, _)) in masters.iter().enumerate() {
            let mut names = vec![host_address(i).to_string(), "127.0.0.1".into(), "10.96.0.1".into(), name.clone()];
            names.extend(["", ".default", ".default.svc"].map(|suffix| format!("kubernetes{suffix}")));
            pki.sign("ca", name, name, &["keelstone:masters"], &names)?;
            pki.sign("store-ca", &format!("{name}-store"), name, &["keelstone:masters"], &names)?;
        }
        for i in 0..workers {
            let (name, address) = (format!("w{}", i + 1), host_address(members + i).to_string());
            pki.sign("ca", &name, &format!("system:node:{name}"), &["system:nodes"], &[address, name.clone()])?;
            pki.kubeconfig(&name, &masters)?;
        }
        pki.sign("ca", "admin", "kubernetes-admin", &["system:masters"], &[])?;
        pki.sign("ca", "kubelet-client", "kube-apiserver-kubelet-client", &["system:masters"], &[])?;
        pki.sign("ca", "scheduler", "system:kube-scheduler", &[], &[])?;
        pki.sign("ca", "controller-manager", "system:kube-controller-manager", &[], &[])?;
        pki.sign("store-ca", "store-client", "store-client", &[], &[])?;
        pki.kubeconfig("admin", &masters)?;
        let mut endpoints = BTreeMap::new();
        for (name, address) in &masters {
            let (ca, certificate) = (pki.read("ca.crt")?, pki.read("admin.crt")?);
            let access = Access { address: address.clone(), ca, certificate, key: pki.read("admin.key")? };
            endpoints.insert(name.clone(), Endpoint::new(&access)?);
        }
        let store = ClientTls {
            ca: pki.read("store-ca.crt")?,
            identity: Some((pki.read("store-client.crt")?, pki.read("store-client.key")?)),
            alpn: vec!["h2".into()],
        };
        let store = Env::os().tls().client(&store).map_err(|e| Failure::impossible(e.to_string()))?;
        let target = Self {
            program: program.to_owned(),
            runtime: runtime.to_owned(),
            members,
            timings,
            work: work.to_owned(),
            pki: pki.dir().to_owned(),
            store: Connector(store),
            containerds: Mutex::default(),
        };
        Ok((target, endpoints))
    }

    pub fn timings(&self) -> Timings {
        self.timings
    }

    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    fn master(&self, host: &Host) -> Vec<String> {
        let peers: Vec<String> =
            (0..self.members).map(|i| format!("m{}={}:{PEER_PORT}", i + 1, host_address(i))).collect();
        let masters: Vec<String> = (0..self.members).map(api_address).collect();
        let t = &self.timings;
        flags(&[
            ("", "server".into()),
            ("--name", host.name.clone()),
            ("--data-dir", host.data.display().to_string()),
            ("--pki-dir", self.pki.display().to_string()),
            ("--listen", format!("{}:{API_PORT}", host.address)),
            ("--listen-store-client", format!("{}:{CLIENT_PORT}", host.address)),
            ("--initial-cluster", peers.join(",")),
            ("--masters", masters.join(",")),
            ("--node-monitor-grace-period-s", t.node_grace_s.to_string()),
            ("--node-monitor-period-s", t.node_period_s.to_string()),
            ("--default-toleration-s", t.toleration_s.to_string()),
            ("--leader-elect-lease-s", t.leader_lease_s.to_string()),
            ("--leader-elect-renew-deadline-s", t.leader_renew_s.to_string()),
            ("--leader-elect-retry-s", t.leader_retry_s.to_string()),
        ])
    }

    fn agent(&self, host: &Host) -> Vec<String> {
        let period = self.timings.node_status_s;
        let mut all = flags(&[
            ("", "agent".into()),
            ("--name", host.name.clone()),
            ("--address", host.address.to_string()),
            ("--port", AGENT_PORT.to_string()),
            ("--kubeconfig", self.pki.join(format!("{}.kubeconfig", host.name)).display().to_string()),
            ("--root-dir", host.data.display().to_string()),
            ("--runtime", self.runtime.clone()),
            ("--pod-cidr", pod_cidr(host)),
            ("--bridge", "pods0".into()),
            ("--node-status-period-s", period.to_string()),
            ("--node-lease-renew-s", period.to_string()),
            ("--node-lease-duration-s", (period * 4).to_string()),
        ]);
        if self.runtime == "cri" {
            let containerd = self.containerd(host);
            all.extend(flags(&[
                ("--runtime-socket", containerd.socket().display().to_string()),
                ("--cgroup-parent", containerd.cgroup_parent()),
            ]));
        }
        all
    }

    fn containerd(&self, host: &Host) -> Containerd {
        Containerd::new(&self.work.join("cri"), &host.name, &pod_cidr(host))
    }

    /// Starts the worker's containerd, unless it runs.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_containerd(&self, host: &Host) -> Outcome<()> {
        let failed = |e: std::io::Error| Failure::impossible(format!("containerd of {}: {e}", host.name));
        let mut all = self.containerds.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get_mut(&host.name).is_some_and(|c| matches!(c.try_wait(), Ok(None))) {
            return Ok(());
        }
        let containerd = self.containerd(host);
        let arguments = containerd.prepare().map_err(failed)?;
        let log = std::fs::File::options().create(true).append(true).open(host.log.with_extension("containerd.log"))?;
        let mut command = Command::new("nsenter");
        command.args(host.namespaces()).args(["--", "containerd"]).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        all.insert(host.name.clone(), command.spawn()?);
        drop(all);
        containerd.ready(true).map_err(failed)
    }

    /// SIGKILL to the worker's containerd; its containers go on.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn kill_containerd(&self, host: &Host) -> Outcome<()> {
        let all = self.containerds.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = all.get(&host.name).and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        match pid {
            Some(pid) => kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(|e| Failure::impossible(e.to_string())),
            None => Ok(()),
        }
    }

    /// Everything on the worker ends at once, as when a machine loses its power: agent, containers, containerd.
    ///
    /// # Errors
    /// The agent does not end.
    pub async fn lose(&self, host: &Host) -> Outcome<()> {
        host.kill().await?;
        if self.runtime == "cri" {
            let (work, name, cidr) = (self.work.join("cri"), host.name.clone(), pod_cidr(host));
            self.kill_containerd(host)?;
            let ended = move || keelstone_agent::containerd::end_containers(&work, "cri", &name, &cidr);
            return tokio::task::spawn_blocking(ended).await.map_err(|e| Failure::impossible(e.to_string()));
        }
        let root = host.data.join("process");
        tokio::task::spawn_blocking(move || kill_containers(&root))
            .await
            .map_err(|e| Failure::impossible(e.to_string()))
    }
}

/// The addresses of a worker's pods, by the last byte of its own.
fn pod_cidr(host: &Host) -> String {
    format!("10.88.{}.0/24", host.address.octets()[3])
}

/// Pairs of flag and value as a command line; a pair without a flag is a bare word.
fn flags(pairs: &[(&str, String)]) -> Vec<String> {
    let words = pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
    words.filter(|word| !word.is_empty()).collect()
}

impl Target for WholeTarget {
    fn name(&self) -> &'static str {
        "masters"
    }

    fn is_member(&self, host: &Host) -> bool {
        host.name.starts_with('m')
    }

    fn tls(&self) -> Option<Arc<dyn TlsConnector>> {
        Some(self.store.0.clone())
    }

    fn launch(&self, host: &Host, _members: &[Arc<Host>], _first: bool) -> Launch {
        let arguments = if self.is_member(host) { self.master(host) } else { self.agent(host) };
        if self.runtime == "cri" && !self.is_member(host) {
            // What it says is in its log; the agent waits for it.
            if let Err(failure) = self.start_containerd(host) {
                eprintln!("{}", failure.text());
            }
        }
        Launch { program: self.program.clone(), arguments }
    }

    fn programs(&self) -> Vec<PathBuf> {
        vec![self.program.clone()]
    }

    fn members_change(&self) -> Result<(), String> {
        Err("whole masters do not join a running cluster here".into())
    }

    fn files(&self, host: &Host, part: Part) -> Vec<PathBuf> {
        match part {
            Part::Log => files_in(&host.data.join("store/wal"), ""),
            Part::State => files_in(&host.data.join("engine"), "sst"),
            Part::Snapshot => manifests(&host.data.join("engine")),
        }
    }
}
