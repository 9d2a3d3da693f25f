use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use keelstone_agent::containerd::{self, Containerd};
use keelstone_env::{ClientTls, Env, TlsConnector};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    process::Processes,
    spec::{ClusterSpec, MasterSpec, Timings, Wanted, WorkerSpec, MASTERS_MAX, WORKERS_MAX},
};
use crate::{
    commands::perturbation,
    kubeconfig::Kubeconfig,
    pki::{Authority, Pki, Subject},
    probe, Failure,
};

const READY_WAIT: Duration = Duration::from_secs(120);
const PROBE_LIMIT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(100);

#[derive(Args)]
pub struct ClusterArguments {
    /// Where the cluster's data, keys, logs and kubeconfig are kept.
    #[arg(long, default_value = "run")]
    dir: PathBuf,
}

#[derive(Args)]
pub struct UpArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[arg(long, default_value_t = 3)]
    masters: usize,
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// The port of the balancer; 0: any free one.
    #[arg(long, default_value_t = 6443)]
    port: u16,
    /// auto (cri where it works, else process), cri, process or hollow (pretends; for scale tests).
    #[arg(long, default_value = "auto")]
    runtime: String,
    /// Kubernetes' periods (a node is lost after 50 s, its pods after 300 s more) instead of short ones.
    #[arg(long)]
    default_timings: bool,
    /// A plan of whose API requests the masters that are started now disturb on purpose.
    #[arg(long)]
    perturbation: Option<PathBuf>,
}

#[derive(Args)]
pub struct KillArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Which: m1, w2, w2-containerd.
    names: Vec<String>,
    /// Freeze (SIGSTOP) instead of killing.
    #[arg(long)]
    stop: bool,
    /// Go on after --stop (SIGCONT).
    #[arg(long = "continue")]
    go_on: bool,
    /// Also end every container of the workers that are named.
    #[arg(long)]
    containers: bool,
}

/// Everything one `up` works with.
struct Cluster {
    dir: PathBuf,
    spec: ClusterSpec,
    pki: Pki,
    processes: Processes,
    program: PathBuf,
    perturbation: Option<PathBuf>,
}

fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(dir).map_err(|e| Failure::Usage(format!("{}: {e}", dir.display())))?;
    Ok(dir.canonicalize()?)
}

fn existing(arguments: &ClusterArguments) -> Result<(PathBuf, ClusterSpec, Processes), Failure> {
    let none =
        || Failure::Usage(format!("there is no cluster in {}; `keelstone up` makes one", arguments.dir.display()));
    let dir = arguments.dir.canonicalize().map_err(|_| none())?;
    let spec = ClusterSpec::load(&dir)?.ok_or_else(none)?;
    let processes = Processes::new(&dir)?;
    Ok((dir, spec, processes))
}

pub async fn up(arguments: UpArguments) -> Result<(), Failure> {
    let begun = Instant::now();
    let dir = absolute(&arguments.cluster.dir)?;
    // What cannot be read is said here, not in a master's log.
    perturbation(arguments.perturbation.as_deref())?;
    let spec = match ClusterSpec::load(&dir)? {
        Some(spec) => {
            println!(
                "the cluster in {} is found again: {} masters, {} workers",
                dir.display(),
                spec.masters.len(),
                spec.workers.len()
            );
            spec
        }
        None => {
            let spec = plan(&arguments)?;
            spec.save(&dir)?;
            spec
        }
    };
    let cluster = Cluster {
        pki: Pki::open(&dir.join("pki"))?,
        processes: Processes::new(&dir)?,
        program: std::env::current_exe()?,
        perturbation: arguments.perturbation.map(|file| file.canonicalize()).transpose()?,
        spec,
        dir,
    };
    cluster.make_certificates()?;
    cluster.write_kubeconfigs()?;
    cluster.start_all()?;
    cluster.wait_ready(begun).await?;
    cluster.say_what_next(begun);
    Ok(())
}

fn plan(arguments: &UpArguments) -> Result<ClusterSpec, Failure> {
    if !(1..=MASTERS_MAX).contains(&arguments.masters) || arguments.workers > WORKERS_MAX {
        return Err(Failure::Usage(format!("1 to {MASTERS_MAX} masters and at most {WORKERS_MAX} workers")));
    }
    let runtime = match arguments.runtime.as_str() {
        "auto" => match containerd::usable() {
            Ok(()) => "cri".to_owned(),
            Err(why) => {
                println!("containerd cannot run here ({why}): pods run as host processes in namespaces of their own");
                "process".to_owned()
            }
        },
        "cri" | "process" | "hollow" => arguments.runtime.clone(),
        other => return Err(Failure::Usage(format!("--runtime {other}: it is auto, cri, process or hollow"))),
    };
    if runtime == "hollow" {
        println!("the hollow runtime only pretends to run containers");
    }
    let timings = if arguments.default_timings { Timings::DEFAULT } else { Timings::FAST };
    let wanted =
        Wanted { masters: arguments.masters, workers: arguments.workers, port: arguments.port, runtime, timings };
    ClusterSpec::plan(&wanted).map_err(|e| {
        Failure::Usage(format!("port {} cannot be used ({e}); --port chooses another, 0 any free one", arguments.port))
    })
}

impl Cluster {
    fn make_certificates(&self) -> Result<(), Failure> {
        let host = self.spec.host.to_string();
        let mut names = vec![host.clone(), "localhost".into(), "10.96.0.1".into()];
        for suffix in ["", ".default", ".default.svc", ".default.svc.cluster.local"] {
            names.push(format!("kubernetes{suffix}"));
        }
        for master in &self.spec.masters {
            let mut names = names.clone();
            names.push(master.name.clone());
            let store = format!("{}-store", master.name);
            for (authority, file) in [(Authority::Api, &master.name), (Authority::Store, &store)] {
                let organizations = &["keelstone:masters"];
                let common_name = &master.name;
                self.pki.ensure(&Subject { authority, file, common_name, organizations, alt_names: &names })?;
            }
        }
        for worker in &self.spec.workers {
            let user = format!("system:node:{}", worker.name);
            let names = [worker.address.to_string(), worker.name.clone()];
            let subject = Subject {
                authority: Authority::Api,
                file: &worker.name,
                common_name: &user,
                organizations: &["system:nodes"],
                alt_names: &names,
            };
            self.pki.ensure(&subject)?;
        }
        for (authority, file, common_name, organizations) in [
            (Authority::Api, "admin", "kubernetes-admin", &["system:masters"][..]),
            (Authority::Api, "kubelet-client", "kube-apiserver-kubelet-client", &["system:masters"][..]),
            (Authority::Api, "scheduler", "system:kube-scheduler", &[][..]),
            (Authority::Api, "controller-manager", "system:kube-controller-manager", &[][..]),
            // For etcdctl against the store.
            (Authority::Store, "store-client", "store-client", &[][..]),
        ] {
            self.pki.ensure(&Subject { authority, file, common_name, organizations, alt_names: &[] })?;
        }
        Ok(())
    }

    fn kubeconfig_path(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    fn write_kubeconfigs(&self) -> Result<(), Failure> {
        let ca = self.pki.read("ca.crt")?;
        let by_master = || self.spec.masters.iter().zip(self.spec.api_addresses());
        let mut contexts = vec![("keelstone".to_owned(), self.spec.balancer_address())];
        contexts.extend(by_master().map(|(m, address)| (m.name.clone(), address)));
        self.write_kubeconfig(&self.kubeconfig_path(), &ca, "admin", &contexts)?;
        for worker in &self.spec.workers {
            let contexts: Vec<_> = by_master().map(|(m, address)| (m.name.clone(), address)).collect();
            let path = self.dir.join("pki").join(format!("{}.kubeconfig", worker.name));
            self.write_kubeconfig(&path, &ca, &worker.name, &contexts)?;
        }
        Ok(())
    }

    fn write_kubeconfig(
        &self,
        path: &Path,
        ca: &str,
        user: &str,
        contexts: &[(String, String)],
    ) -> Result<(), Failure> {
        let (certificate, key) = (self.pki.read(&format!("{user}.crt"))?, self.pki.read(&format!("{user}.key"))?);
        let text = Kubeconfig { ca, user, certificate: &certificate, key: &key, contexts }.to_yaml();
        std::fs::write(path, text)?;
        use std::os::unix::fs::PermissionsExt;
        Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
    }

    fn start_all(&self) -> Result<(), Failure> {
        for master in &self.spec.masters {
            self.start(&master.name, &self.program, &self.master_flags(master))?;
        }
        self.start("balancer", &self.program, &self.balancer_flags())?;
        for worker in &self.spec.workers {
            if self.spec.runtime == "cri" {
                let containerd = Containerd::new(&self.dir, &worker.name, &worker.pod_cidr);
                let arguments = containerd.prepare()?;
                let fresh = self.start(&format!("{}-containerd", worker.name), Path::new("containerd"), &arguments)?;
                containerd.ready(fresh)?;
            }
            self.start(&worker.name, &self.program, &self.agent_flags(worker))?;
        }
        Ok(())
    }

    fn start(&self, name: &str, program: &Path, arguments: &[String]) -> Result<bool, Failure> {
        let fresh = self
            .processes
            .start(name, program, arguments)
            .map_err(|e| Failure::Failed(format!("{name} cannot be started: {e}")))?;
        if fresh {
            println!("started {name}");
        }
        Ok(fresh)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn master_flags(&self, master: &MasterSpec) -> Vec<String> {
        let (host, timings) = (self.spec.host, &self.spec.timings);
        let mut all = flags(&[
            ("", "server".into()),
            ("--name", master.name.clone()),
            ("--data-dir", self.path(&master.name)),
            ("--pki-dir", self.path("pki")),
            ("--listen", format!("{host}:{}", master.api_port)),
            ("--listen-store-client", format!("{host}:{}", master.store_client_port)),
            ("--initial-cluster", self.spec.initial_cluster()),
            ("--masters", self.spec.api_addresses().join(",")),
            ("--node-monitor-grace-period-s", timings.node_monitor_grace_period_s.to_string()),
            ("--node-monitor-period-s", timings.node_monitor_period_s.to_string()),
            ("--default-toleration-s", timings.eviction_toleration_s.to_string()),
            ("--leader-elect-lease-s", timings.leader_lease_s.to_string()),
            ("--leader-elect-renew-deadline-s", timings.leader_renew_deadline_s.to_string()),
            ("--leader-elect-retry-s", timings.leader_retry_s.to_string()),
        ]);
        if let Some(plan) = &self.perturbation {
            all.extend(flags(&[("--perturbation", plan.display().to_string())]));
        }
        all
    }

    fn balancer_flags(&self) -> Vec<String> {
        flags(&[
            ("", "balancer".into()),
            ("--listen", self.spec.balancer_address()),
            ("--masters", self.spec.api_addresses().join(",")),
            ("--ca-file", self.path("pki/ca.crt")),
        ])
    }

    fn agent_flags(&self, worker: &WorkerSpec) -> Vec<String> {
        let period = self.spec.timings.node_status_period_s;
        let mut all = flags(&[
            ("", "agent".into()),
            ("--name", worker.name.clone()),
            ("--address", worker.address.to_string()),
            ("--port", worker.agent_port.to_string()),
            ("--kubeconfig", self.path(&format!("pki/{}.kubeconfig", worker.name))),
            ("--root-dir", self.path(&worker.name)),
            ("--runtime", self.spec.runtime.clone()),
            ("--pod-cidr", worker.pod_cidr.clone()),
            ("--bridge", containerd::bridge(&self.dir, &worker.name)),
            ("--node-status-period-s", period.to_string()),
            ("--node-lease-renew-s", period.to_string()),
            ("--node-lease-duration-s", (period * 4).to_string()),
        ]);
        if self.spec.runtime == "cri" {
            let containerd = Containerd::new(&self.dir, &worker.name, &worker.pod_cidr);
            all.extend(flags(&[
                ("--runtime-socket", containerd.socket().display().to_string()),
                ("--cgroup-parent", containerd.cgroup_parent()),
            ]));
        }
        all
    }

    fn admin(&self, env: &Env) -> Result<Arc<dyn TlsConnector>, Failure> {
        let identity = Some((self.pki.read("admin.crt")?, self.pki.read("admin.key")?));
        let tls = ClientTls { ca: self.pki.read("ca.crt")?, identity, alpn: vec!["http/1.1".into()] };
        Ok(env.tls().client(&tls)?)
    }

    /// Every master ready, every worker's node Ready, and the balancer answering.
    async fn wait_ready(&self, begun: Instant) -> Result<(), Failure> {
        let env = Env::os();
        let tls = self.admin(&env)?;
        let deadline = begun + READY_WAIT;
        loop {
            let missing = self.missing(&env, &*tls).await;
            if missing.is_empty() {
                return Ok(());
            }
            if let Some(dead) = self.dead() {
                let log = self.processes.log(&dead);
                return Err(Failure::Failed(format!("{dead} has ended; its log is {}", log.display())));
            }
            if Instant::now() > deadline {
                let said = missing.join("; ");
                return Err(Failure::Failed(format!(
                    "not ready after {READY_WAIT:?}: {said}; logs in {}",
                    self.path("logs")
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn dead(&self) -> Option<String> {
        let masters = self.spec.masters.iter().map(|m| m.name.clone());
        let workers = self.spec.workers.iter().map(|w| w.name.clone());
        masters.chain(workers).chain(["balancer".to_owned()]).find(|name| self.processes.running(name).is_none())
    }

    async fn missing(&self, env: &Env, tls: &dyn TlsConnector) -> Vec<String> {
        let mut missing = Vec::new();
        for (master, address) in self.spec.masters.iter().zip(self.spec.api_addresses()) {
            match probe::get(env, tls, &address, "/readyz", PROBE_LIMIT).await {
                Ok((200, _)) => {}
                Ok((code, _)) => missing.push(format!("{} answers /readyz with {code}", master.name)),
                Err(error) => missing.push(format!("{}: {error}", master.name)),
            }
        }
        if !missing.is_empty() {
            return missing;
        }
        let nodes = probe::get(env, tls, &self.spec.balancer_address(), "/api/v1/nodes", PROBE_LIMIT).await;
        let ready = match nodes {
            Ok((200, body)) => ready_nodes(&body),
            Ok((code, _)) => return vec![format!("the list of nodes is answered with {code}")],
            Err(error) => return vec![format!("the balancer: {error}")],
        };
        let workers = self.spec.workers.iter().filter(|w| !ready.contains(&w.name));
        workers.map(|w| format!("node {} is not Ready", w.name)).collect()
    }

    fn say_what_next(&self, begun: Instant) {
        let timings = &self.spec.timings;
        println!(
            "\n{} masters and {} workers ({}) are ready after {:.1} s.",
            self.spec.masters.len(),
            self.spec.workers.len(),
            self.spec.runtime,
            begun.elapsed().as_secs_f64()
        );
        if *timings == Timings::FAST {
            println!(
                "Periods are short here: a silent node is NotReady after {} s (Kubernetes: 50 s), its pods are evicted {} s later (300 s).",
                timings.node_monitor_grace_period_s, timings.eviction_toleration_s
            );
        }
        println!("\nNow type:\n  export KUBECONFIG={}\n  kubectl get nodes", self.kubeconfig_path().display());
    }
}

/// Names of the nodes whose Ready condition is True.
fn ready_nodes(list: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(list).unwrap_or_default();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let ready = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    items.iter().filter(ready).filter_map(|n| Some(n["metadata"]["name"].as_str()?.to_owned())).collect()
}

/// Pairs of flag and value as a command line; a pair without a flag is a bare word.
fn flags(pairs: &[(&str, String)]) -> Vec<String> {
    let words = pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
    words.filter(|word| !word.is_empty()).collect()
}

pub fn down(arguments: &ClusterArguments) -> Result<(), Failure> {
    let (dir, spec, processes) = existing(arguments)?;
    let names = processes.names();
    let (containerds, others): (Vec<String>, Vec<String>) = names.into_iter().partition(|n| n.ends_with("-containerd"));
    // Agents first, so that nothing is started again; then containers; then the rest.
    let workers: Vec<String> = spec.workers.iter().map(|w| w.name.clone()).collect();
    processes.stop(&workers);
    for worker in &spec.workers {
        containerd::end_containers(&dir, &spec.runtime, &worker.name, &worker.pod_cidr);
    }
    processes.stop(&containerds);
    processes.stop(&others);
    for worker in &spec.workers {
        containerd::clean(&dir, &worker.name);
    }
    println!("stopped; the data stays in {}", dir.display());
    Ok(())
}

pub fn status(arguments: &ClusterArguments) -> Result<(), Failure> {
    let (_, _, processes) = existing(arguments)?;
    for name in processes.names() {
        match processes.running(&name) {
            Some(process) => println!("{name}\trunning\tpid {}", process.pid),
            None => println!("{name}\tgone"),
        }
    }
    Ok(())
}

pub fn kill(arguments: &KillArguments) -> Result<(), Failure> {
    let (dir, spec, processes) = existing(&arguments.cluster)?;
    let signal = match (arguments.stop, arguments.go_on) {
        (true, false) => Signal::SIGSTOP,
        (false, true) => Signal::SIGCONT,
        (false, false) => Signal::SIGKILL,
        (true, true) => return Err(Failure::Usage("--stop or --continue, not both".into())),
    };
    for name in &arguments.names {
        if !processes.signal(name, signal) {
            return Err(Failure::Usage(format!("{name} does not run; `keelstone status` says what does")));
        }
        println!("{signal} to {name}");
        if let Some(worker) = spec.workers.iter().find(|w| arguments.containers && w.name == *name) {
            processes.signal(&format!("{name}-containerd"), signal);
            containerd::end_containers(&dir, &spec.runtime, &worker.name, &worker.pod_cidr);
        }
    }
    Ok(())
}
