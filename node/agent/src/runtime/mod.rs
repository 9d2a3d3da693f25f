//! What a container runtime does for the agent. It keeps running what it runs while the agent is away, and
//! shows it again afterwards: the agent itself remembers nothing that the runtime can tell.

pub mod cri;
mod hollow;
pub mod process;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use async_trait::async_trait;
pub use hollow::{HollowMachine, HollowRuntime};
use k8s_openapi::api::core::v1::Pod;

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The image is not on the node and cannot be had.
    #[error("image {image}: {said}")]
    Image { image: String, said: String },
    /// The runtime cannot be reached now.
    #[error("the runtime does not answer: {0}")]
    Unavailable(String),
    /// It is not there (any more).
    #[error("no such sandbox or container: {0}")]
    NotFound(String),
    /// The runtime refused or failed.
    #[error("{0}")]
    Failed(String),
}

/// Which pod a sandbox belongs to; runtimes keep it with the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodIdentity {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

/// What a pod's containers share.
#[derive(Clone, Debug, Default)]
pub struct SandboxSpec {
    pub pod: PodIdentity,
    /// Counts the sandboxes of one pod.
    pub attempt: u32,
    pub hostname: String,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// One PID namespace for all containers.
    pub share_process_namespace: bool,
    /// Some container of it is privileged.
    pub privileged: bool,
    pub dns_servers: Vec<String>,
    pub dns_searches: Vec<String>,
    pub dns_options: Vec<String>,
    pub sysctls: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Where the logs of the pod's containers are kept.
    pub log_dir: PathBuf,
    pub port_mappings: Vec<PortMapping>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    pub protocol: String,
    pub container_port: u16,
    pub host_port: u16,
    pub host_ip: String,
}

/// A file or folder of the node that a container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub host_path: PathBuf,
    pub container_path: String,
    pub read_only: bool,
    /// `None`, `HostToContainer`, `Bidirectional`.
    pub propagation: String,
}

/// A container to start.
#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    pub name: String,
    /// Counts the starts of this container in its pod: the restart count.
    pub attempt: u32,
    pub image: String,
    /// `Always`, `IfNotPresent`, `Never`.
    pub image_pull_policy: String,
    /// Empty: the image's entry point.
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub working_dir: String,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub privileged: bool,
    pub read_only_root: bool,
    pub run_as_user: Option<i64>,
    /// It must not start as root, whatever its image says.
    pub run_as_non_root: bool,
    pub run_as_group: Option<i64>,
    pub supplemental_groups: Vec<i64>,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub no_new_privileges: bool,
    /// The runtime's own seccomp profile; else none.
    pub seccomp_runtime_default: bool,
    pub cpu_shares: i64,
    /// CPU time in each period of 100 ms, in microseconds; 0: no limit.
    pub cpu_quota_us: i64,
    /// 0: no limit.
    pub memory_limit_bytes: i64,
    pub oom_score_adj: i64,
    /// Relative to the sandbox's log folder: `<container>/<attempt>.log`, in CRI's log format.
    pub log_path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerPhase {
    Created,
    Running,
    Exited {
        code: i32,
        finished_unix_ns: i64,
        /// `Completed`, `Error`, `OOMKilled`, as the runtime says.
        reason: String,
        message: String,
    },
    /// The runtime has lost track of it.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// With the runtime's scheme: `containerd://...`.
    pub id: String,
    pub name: String,
    pub attempt: u32,
    pub phase: ContainerPhase,
    pub created_unix_ns: i64,
    /// 0 until it started.
    pub started_unix_ns: i64,
    pub image: String,
    pub image_id: String,
}

impl ContainerState {
    pub fn is_running(&self) -> bool {
        matches!(self.phase, ContainerPhase::Running | ContainerPhase::Created)
    }

    pub fn exit_code(&self) -> Option<i32> {
        match self.phase {
            ContainerPhase::Exited { code, .. } => Some(code),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxState {
    pub id: String,
    pub pod: PodIdentity,
    pub attempt: u32,
    pub ready: bool,
    /// Empty on the host's network, or when the sandbox is down.
    pub ip: String,
    pub created_unix_ns: i64,
    /// All attempts of all containers that the runtime still knows.
    pub containers: Vec<ContainerState>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    pub exit_code: i32,
    /// Standard output and error, cut at a bound of the runtime's.
    pub output: Vec<u8>,
}

#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// `cri`, `process`, `hollow`.
    fn name(&self) -> &'static str;

    /// What the pod asks for and this runtime cannot do: the pod is refused, never run without it.
    fn lacks(&self, _pod: &Pod) -> Option<String> {
        None
    }

    /// For the node's status: `containerd://1.6.20`.
    async fn version(&self) -> Result<String, RuntimeError>;

    /// Every sandbox that the agent has started on this node, with its containers.
    async fn observe(&self) -> Result<Vec<SandboxState>, RuntimeError>;

    async fn start_sandbox(&self, spec: &SandboxSpec) -> Result<String, RuntimeError>;

    /// Kills what runs in it and gives back its network; logs and exit codes stay. Idempotent.
    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError>;

    /// Forgets it with all its containers. Idempotent.
    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError>;

    /// Creates and starts a container in a sandbox that was started with `sandbox`.
    async fn start_container(
        &self,
        sandbox_id: &str,
        sandbox: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<String, RuntimeError>;

    /// Asks it to end (SIGTERM) and kills it after `grace`. Idempotent.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError>;

    /// Forgets a container that ended. Idempotent.
    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError>;

    /// Runs a command in a running container.
    async fn exec(&self, id: &str, command: &[String], limit: Duration) -> Result<ExecOutput, RuntimeError>;
}
