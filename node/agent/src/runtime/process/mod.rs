//! Pods as processes of the host: for machines on which no container runtime can run. There are no images:
//! a container's command is looked up on the host. Each container has PID, mount, host name and IPC
//! namespaces of its own, a scratch layer over the host's files, and each pod a network namespace on the
//! node's bridge (if the machine allows it; else the host's network, which the sandbox's record says).
//!
//! A small supervisor (`keelstone container-shim <folder>`) is the parent of each container: it writes the
//! log and the exit code. So containers outlive the agent, and nothing is lost while it is away.
//!
//! ```text
//! <root>/<sandbox>/sandbox.json
//! <root>/<sandbox>/<container>/spec.json, shim.json, started.json, exit.json
//! ```
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a leaf: it starts processes

mod lacks;
mod network;
mod record;
mod shim;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use async_trait::async_trait;
use keelstone_env::Env;
use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};
use record::{ContainerRecord, Exit, Process, SandboxRecord, Started};
pub use shim::shim_main;

use super::{
    ContainerPhase, ContainerSpec, ContainerState, ExecOutput, Runtime, RuntimeError, SandboxSpec, SandboxState,
};
use crate::constants::EXEC_BYTES_MAX;

const SCHEME: &str = "process://";
/// A started container shows itself within this time, or its start has failed.
const START_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

pub struct ProcessRuntime {
    env: Env,
    root: PathBuf,
    /// The program whose `container-shim` subcommand is [`shim_main`].
    program: PathBuf,
    network: network::Network,
}

fn failed(error: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::Failed(error.to_string())
}

impl ProcessRuntime {
    /// `pod_cidr` is `a.b.c.0/24`; `bridge` is the name of the node's bridge, made when it is needed.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new(env: Env, root: &Path, program: &Path, bridge: &str, pod_cidr: &str) -> std::io::Result<Self> {
        std::fs::create_dir_all(root)?;
        Ok(Self {
            env,
            root: root.to_owned(),
            program: program.to_owned(),
            network: network::Network::new(bridge, pod_cidr),
        })
    }

    fn dir(&self, id: &str) -> Result<PathBuf, RuntimeError> {
        let path = id.strip_prefix(SCHEME).filter(|p| !p.contains("..") && !p.starts_with('/'));
        let path = self.root.join(path.ok_or_else(|| RuntimeError::NotFound(id.to_owned()))?);
        if path.is_dir() {
            Ok(path)
        } else {
            Err(RuntimeError::NotFound(id.to_owned()))
        }
    }

    fn now_unix_ns(&self) -> i64 {
        let since = self.env.wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    fn observe_blocking(root: &Path) -> Vec<SandboxState> {
        let mut sandboxes = Vec::new();
        for dir in record::folders(root) {
            let Some(sandbox) = record::read::<SandboxRecord>(&dir.join("sandbox.json")) else { continue };
            let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let containers = record::folders(&dir).iter().filter_map(|c| container_state(&name, c)).collect();
            sandboxes.push(SandboxState {
                id: format!("{SCHEME}{name}"),
                pod: sandbox.identity(),
                attempt: sandbox.attempt,
                ready: !sandbox.stopped && network::exists(&sandbox.network_namespace),
                ip: sandbox.ip.clone(),
                created_unix_ns: sandbox.created_unix_ns,
                containers,
            });
        }
        sandboxes
    }

    async fn started(&self, dir: &Path) -> Result<(), RuntimeError> {
        let deadline = self.env.now() + START_WAIT;
        loop {
            if record::read::<Started>(&dir.join("started.json")).is_some() {
                return Ok(());
            }
            if let Some(exit) = record::read::<Exit>(&dir.join("exit.json")) {
                return Err(RuntimeError::Failed(exit.message));
            }
            if self.env.now() >= deadline {
                return Err(RuntimeError::Failed("the container did not start in time".into()));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn container_state(sandbox: &str, dir: &Path) -> Option<ContainerState> {
    let spec: ContainerRecord = record::read(&dir.join("spec.json"))?;
    let started: Option<Started> = record::read(&dir.join("started.json"));
    let exit: Option<Exit> = record::read(&dir.join("exit.json"));
    let shim: Option<Process> = record::read(&dir.join("shim.json"));
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let alive = shim.as_ref().is_some_and(Process::runs);
    let phase = match (exit, &started) {
        (Some(exit), _) => ContainerPhase::Exited {
            code: exit.code,
            finished_unix_ns: exit.finished_unix_ns,
            reason: if exit.code == 0 { "Completed" } else { "Error" }.into(),
            message: exit.message,
        },
        (None, Some(_)) if alive => ContainerPhase::Running,
        (None, None) if alive => ContainerPhase::Created,
        // The supervisor was killed, and the container with it (it is the parent of its PID namespace).
        (None, started) => ContainerPhase::Exited {
            code: 137,
            finished_unix_ns: started.as_ref().map_or(spec.created_unix_ns, |s| s.unix_ns),
            reason: "Error".into(),
            message: "the supervisor of the container is gone".into(),
        },
    };
    Some(ContainerState {
        id: format!("{SCHEME}{sandbox}/{name}"),
        name: spec.name,
        attempt: spec.attempt,
        phase,
        created_unix_ns: spec.created_unix_ns,
        started_unix_ns: started.map_or(0, |s| s.unix_ns),
        image: spec.image,
        image_id: String::new(),
    })
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn name(&self) -> &'static str {
        "process"
    }

    fn lacks(&self, pod: &k8s_openapi::api::core::v1::Pod) -> Option<String> {
        lacks::lacks(pod)
    }

    async fn version(&self) -> Result<String, RuntimeError> {
        Ok(format!("{SCHEME}{}", env!("CARGO_PKG_VERSION")))
    }

    async fn observe(&self) -> Result<Vec<SandboxState>, RuntimeError> {
        let root = self.root.clone();
        Ok(self.env.offload(move || Self::observe_blocking(&root)).await)
    }

    async fn start_sandbox(&self, spec: &SandboxSpec) -> Result<String, RuntimeError> {
        if !spec.sysctls.is_empty() {
            return Err(RuntimeError::Failed("the process runtime sets no sysctls".into()));
        }
        let name = format!("{}-{}", spec.pod.uid, spec.attempt);
        let dir = self.root.join(&name);
        std::fs::create_dir_all(&dir).map_err(failed)?;
        std::fs::create_dir_all(&spec.log_dir).map_err(failed)?;
        let taken: Vec<String> = Self::observe_blocking(&self.root).into_iter().map(|s| s.ip).collect();
        let (namespace, ip) = match (spec.host_network, &self.network) {
            (true, _) => (String::new(), String::new()),
            (false, network) => match network.connect(&name, &taken) {
                Ok(connected) => connected,
                Err(error) => {
                    tracing::info!(%error, pod = %spec.pod.name, "no network namespace for the pod: it uses the host's network");
                    (String::new(), String::new())
                }
            },
        };
        let record = SandboxRecord::new(spec, namespace, ip, self.now_unix_ns());
        record::write(&dir.join("sandbox.json"), &record).map_err(failed)?;
        Ok(format!("{SCHEME}{name}"))
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let Ok(dir) = self.dir(id) else { return Ok(()) };
        for container in record::folders(&dir) {
            if let Some(shim) = record::read::<Process>(&container.join("shim.json")).filter(Process::runs) {
                let name = container.file_name().unwrap_or_default().to_string_lossy();
                self.stop_container(&format!("{id}/{name}"), Duration::ZERO).await?;
                tracing::debug!(pid = shim.pid, "supervisor of a stopped sandbox");
            }
        }
        if let Some(mut sandbox) = record::read::<SandboxRecord>(&dir.join("sandbox.json")) {
            self.network.disconnect(&sandbox.network_namespace);
            sandbox.stopped = true;
            sandbox.ip.clear();
            sandbox.network_namespace.clear();
            record::write(&dir.join("sandbox.json"), &sandbox).map_err(failed)?;
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        self.stop_sandbox(id).await?;
        match self.dir(id) {
            Ok(dir) => std::fs::remove_dir_all(dir).map_err(failed),
            Err(_) => Ok(()),
        }
    }

    async fn start_container(
        &self,
        sandbox_id: &str,
        sandbox: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<String, RuntimeError> {
        if spec.command.is_empty() {
            let said = "the process runtime has no images: a container needs a command";
            return Err(RuntimeError::Failed(said.into()));
        }
        let sandbox_dir = self.dir(sandbox_id)?;
        let known: SandboxRecord = record::read(&sandbox_dir.join("sandbox.json"))
            .ok_or_else(|| RuntimeError::NotFound(sandbox_id.to_owned()))?;
        let name = format!("{}-{}", spec.name, spec.attempt);
        let dir = sandbox_dir.join(&name);
        std::fs::create_dir_all(&dir).map_err(failed)?;
        let record = ContainerRecord::new(sandbox, &known, spec, self.now_unix_ns());
        record::write(&dir.join("spec.json"), &record).map_err(failed)?;
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("container-shim").arg(&dir);
        // A process group of its own, so that it outlives the agent.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut shim = command.spawn().map_err(failed)?;
        // Reaped by a task, if the agent is still there; a blocking wait would keep the agent from ending.
        drop(self.env.spawn(async move { shim.wait().await.ok() }));
        self.started(&dir).await?;
        Ok(format!("{sandbox_id}/{name}"))
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let Ok(dir) = self.dir(id) else { return Ok(()) };
        let shim: Option<Process> = record::read(&dir.join("shim.json"));
        let Some(shim) = shim.filter(Process::runs) else { return Ok(()) };
        let container: Option<Started> = record::read(&dir.join("started.json"));
        let deadline = self.env.now() + grace;
        if let Some(container) = &container {
            if !grace.is_zero() {
                let _ = kill(Pid::from_raw(container.process.pid), Signal::SIGTERM);
            }
        }
        while shim.runs() && self.env.now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        if let Some(container) = container.filter(|c| c.process.runs()) {
            let _ = kill(Pid::from_raw(container.process.pid), Signal::SIGKILL);
        }
        let last = self.env.now() + START_WAIT;
        while shim.runs() && self.env.now() < last {
            tokio::time::sleep(POLL).await;
        }
        if shim.runs() {
            let _ = kill(Pid::from_raw(shim.pid), Signal::SIGKILL);
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        match self.dir(id) {
            Ok(dir) => std::fs::remove_dir_all(dir).map_err(failed),
            Err(_) => Ok(()),
        }
    }

    async fn exec(&self, id: &str, command: &[String], limit: Duration) -> Result<ExecOutput, RuntimeError> {
        let dir = self.dir(id)?;
        let started: Option<Started> = record::read(&dir.join("started.json"));
        let started = started.filter(|s| s.process.runs()).ok_or_else(|| RuntimeError::NotFound(id.to_owned()))?;
        // util-linux enters the container's namespaces and its root.
        let mut nsenter = tokio::process::Command::new("nsenter");
        nsenter.args(["-t", &started.process.pid.to_string(), "-m", "-u", "-i", "-p", "-n", "-r", "-w", "--"]);
        nsenter.args(command).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(limit, nsenter.output()).await;
        let output = output.map_err(|_| RuntimeError::Failed("the command timed out".into()))?.map_err(failed)?;
        let mut text = output.stdout;
        text.extend_from_slice(&output.stderr);
        text.truncate(EXEC_BYTES_MAX);
        Ok(ExecOutput { exit_code: output.status.code().unwrap_or(137), output: text })
    }
}
