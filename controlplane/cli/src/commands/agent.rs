use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use keelstone_agent::{
    runtime::{
        cri::{CriOptions, CriRuntime},
        process::ProcessRuntime,
        HollowMachine, HollowRuntime, Runtime,
    },
    Agent, AgentClock, AgentConfig, Capacity,
};
use keelstone_env::{Env, ServerTls};

use super::{asked_to_stop, credentials};
use crate::{kubeconfig::Credentials, Failure};

#[derive(Args)]
pub struct AgentArguments {
    /// The name of the node.
    #[arg(long)]
    name: String,
    /// The node's address; the agent's server listens on it.
    #[arg(long)]
    address: String,
    #[arg(long, default_value_t = 10250)]
    port: u16,
    /// Names the masters and holds this node's certificate.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Volumes, logs and the records of the `process` runtime are kept here.
    #[arg(long)]
    root_dir: PathBuf,
    /// cri, process (host processes in namespaces of their own) or hollow (pretends; for scale tests).
    #[arg(long, default_value = "cri")]
    runtime: String,
    /// The socket of the CRI runtime.
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    runtime_socket: PathBuf,
    /// The parent cgroup of the node's pods, for `cri`.
    #[arg(long, default_value = "")]
    cgroup_parent: String,
    /// The addresses of the node's pods, as a.b.c.0/24.
    #[arg(long, default_value = "10.88.1.0/24")]
    pod_cidr: String,
    /// The bridge of the node's pods, for `process`.
    #[arg(long, default_value = "keelstone0")]
    bridge: String,
    #[arg(long, value_delimiter = ',')]
    cluster_dns: Vec<String>,
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Labels of the node: key=value,...
    #[arg(long, value_delimiter = ',')]
    node_labels: Vec<String>,
    /// The longest time between two status reports, in seconds.
    #[arg(long, default_value_t = 10)]
    node_status_period_s: u64,
    #[arg(long, default_value_t = 10)]
    node_lease_renew_s: u64,
    #[arg(long, default_value_t = 40)]
    node_lease_duration_s: i32,
    #[arg(long, default_value_t = 110)]
    max_pods: usize,
    /// What the node offers, in thousandths of a core; 0: what the machine has.
    #[arg(long, default_value_t = 0)]
    cpu_millis: u64,
    /// What the node offers; 0: what the machine has.
    #[arg(long, default_value_t = 0)]
    memory_bytes: u64,
}

pub async fn run(arguments: AgentArguments) -> Result<(), Failure> {
    let env = Env::os();
    let credentials = credentials(&arguments.kubeconfig)?;
    let config = config(&arguments, &credentials)?;
    let client = credentials.client(&env)?.named("kubelet");
    let runtime = runtime(&env, &arguments).await?;
    let agent = Agent::start(env, config, client, runtime).await?;
    tracing::info!(node = %arguments.name, port = agent.port(), runtime = %arguments.runtime, "agent serves");
    asked_to_stop().await
}

fn config(arguments: &AgentArguments, credentials: &Credentials) -> Result<AgentConfig, Failure> {
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), arguments.name.clone()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), "amd64".to_owned()),
    ]);
    for label in &arguments.node_labels {
        let (key, value) = label.split_once('=').ok_or_else(|| Failure::Usage(format!("{label} is not key=value")))?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    let machine = machine();
    let or = |given: u64, machine: u64| if given == 0 { machine } else { given };
    Ok(AgentConfig {
        node_name: arguments.name.clone(),
        address: arguments.address.clone(),
        port: arguments.port,
        labels,
        root_dir: arguments.root_dir.clone(),
        pod_cidr: arguments.pod_cidr.clone(),
        cluster_dns: arguments.cluster_dns.clone(),
        cluster_domain: arguments.cluster_domain.clone(),
        capacity: Capacity {
            cpu_millis: or(arguments.cpu_millis, machine.cpu_millis),
            memory_bytes: or(arguments.memory_bytes, machine.memory_bytes),
            ephemeral_storage_bytes: machine.ephemeral_storage_bytes,
            pods: arguments.max_pods,
        },
        status_period: Duration::from_secs(arguments.node_status_period_s.max(1)),
        lease_renew_period: Duration::from_secs(arguments.node_lease_renew_s.max(1)),
        lease_duration_s: arguments.node_lease_duration_s,
        server_tls: Some(ServerTls {
            certificate: credentials.certificate.clone(),
            key: credentials.key.clone(),
            client_ca: Some(credentials.ca.clone()),
            client_certificate_required: false,
            alpn: vec!["http/1.1".into()],
        }),
        clock: AgentClock { observe_every: Duration::from_millis(keelstone_agent::constants::OBSERVE_EVERY_MS) },
    })
}

fn machine() -> Capacity {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total =
        memory.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    let disk = nix::sys::statvfs::statvfs("/").map_or(0, |s| s.blocks().saturating_mul(s.fragment_size()));
    Capacity {
        cpu_millis: cores * 1000,
        memory_bytes: total.unwrap_or(0) * 1024,
        ephemeral_storage_bytes: disk,
        pods: keelstone_agent::constants::PODS_MAX,
    }
}

async fn runtime(env: &Env, arguments: &AgentArguments) -> Result<Arc<dyn Runtime>, Failure> {
    match arguments.runtime.as_str() {
        "cri" => {
            let options = CriOptions {
                socket: arguments.runtime_socket.clone(),
                node: arguments.name.clone(),
                cgroup_parent: arguments.cgroup_parent.clone(),
            };
            Ok(Arc::new(CriRuntime::new(env.clone(), options)))
        }
        "process" => {
            let root = arguments.root_dir.join("process");
            let program = std::env::current_exe()?;
            let (bridge, cidr) = (&arguments.bridge, &arguments.pod_cidr);
            Ok(Arc::new(ProcessRuntime::new(env.clone(), &root, &program, bridge, cidr)?))
        }
        "hollow" => {
            let prefix = arguments.pod_cidr.rsplit_once('.').map_or("10.88.1", |(prefix, _)| prefix);
            Ok(Arc::new(HollowRuntime::new(env.clone(), HollowMachine::default(), prefix)))
        }
        other => Err(Failure::Usage(format!("--runtime {other}: it is cri, process or hollow"))),
    }
}
