//! A runtime that only pretends: for scale tests and for the simulation. Never the default.
//!
//! A container runs until it is stopped, unless its command says otherwise: `exit <code>` ends at once,
//! `sleep <seconds>` ends with 0 after that time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use keelstone_env::Env;

use super::{
    ContainerPhase, ContainerSpec, ContainerState, ExecOutput, Runtime, RuntimeError, SandboxSpec, SandboxState,
};

/// The machine under a hollow runtime. It outlives the agent, as containers do: clones share one machine.
#[derive(Clone, Default)]
pub struct HollowMachine(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, Sandbox>,
    next: u64,
}

struct Sandbox {
    state: SandboxState,
    /// Container id to the time at which it ends by itself, and with which code.
    ends: BTreeMap<String, (i64, i32)>,
}

impl HollowMachine {
    /// The machine loses its power: everything that ran is gone.
    pub fn power_off(&self) {
        self.state().sandboxes.clear();
    }

    /// What runs now, without asking through an agent: the truth for checkers. `now` ends what is due.
    pub fn sandboxes(&self, now_unix_ns: i64) -> Vec<SandboxState> {
        let mut state = self.state();
        state.settle(now_unix_ns);
        state.sandboxes.values().map(|s| s.state.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the machine is locked")
    }
}

impl State {
    /// Ends the containers whose time has come.
    fn settle(&mut self, now_unix_ns: i64) {
        for sandbox in self.sandboxes.values_mut() {
            for container in &mut sandbox.state.containers {
                let due = sandbox.ends.get(&container.id).filter(|(at, _)| *at <= now_unix_ns);
                if let (true, Some(&(at, code))) = (container.is_running(), due) {
                    end(container, code, at);
                }
            }
        }
    }

    fn container(&mut self, id: &str) -> Option<&mut ContainerState> {
        self.sandboxes.values_mut().flat_map(|s| &mut s.state.containers).find(|c| c.id == id)
    }

    fn id(&mut self, what: &str) -> String {
        self.next += 1;
        format!("hollow://{what}-{}", self.next)
    }
}

fn end(container: &mut ContainerState, code: i32, finished_unix_ns: i64) {
    let reason = if code == 0 { "Completed" } else { "Error" };
    container.phase = ContainerPhase::Exited { code, finished_unix_ns, reason: reason.into(), message: String::new() };
}

pub struct HollowRuntime {
    env: Env,
    machine: HollowMachine,
    /// Pods get addresses `<prefix>.<n>`: `10.88.11`.
    address_prefix: String,
}

impl HollowRuntime {
    pub fn new(env: Env, machine: HollowMachine, address_prefix: &str) -> Self {
        Self { env, machine, address_prefix: address_prefix.to_owned() }
    }

    fn now_unix_ns(&self) -> i64 {
        let since = self.env.wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    /// When the command says that it ends, and how.
    fn planned_end(&self, spec: &ContainerSpec) -> Option<(i64, i32)> {
        let words: Vec<&str> = spec.command.iter().chain(&spec.args).map(String::as_str).collect();
        match words.as_slice() {
            ["exit", code] => Some((self.now_unix_ns(), code.parse().ok()?)),
            ["sleep", seconds] => {
                Some((self.now_unix_ns().saturating_add(seconds.parse::<i64>().ok()?.saturating_mul(1_000_000_000)), 0))
            }
            _ => None,
        }
    }
}

#[async_trait]
impl Runtime for HollowRuntime {
    fn name(&self) -> &'static str {
        "hollow"
    }

    async fn version(&self) -> Result<String, RuntimeError> {
        Ok("hollow://1".into())
    }

    async fn observe(&self) -> Result<Vec<SandboxState>, RuntimeError> {
        Ok(self.machine.sandboxes(self.now_unix_ns()))
    }

    async fn start_sandbox(&self, spec: &SandboxSpec) -> Result<String, RuntimeError> {
        let now = self.now_unix_ns();
        let mut state = self.machine.state();
        let id = state.id("sandbox");
        let ip = if spec.host_network {
            String::new()
        } else {
            let taken: Vec<&str> = state.sandboxes.values().map(|s| s.state.ip.as_str()).collect();
            let free =
                (2..=254).map(|n| format!("{}.{n}", self.address_prefix)).find(|ip| !taken.contains(&ip.as_str()));
            free.ok_or_else(|| RuntimeError::Failed("no pod address is free".into()))?
        };
        let sandbox = SandboxState {
            id: id.clone(),
            pod: spec.pod.clone(),
            attempt: spec.attempt,
            ready: true,
            ip,
            created_unix_ns: now,
            containers: Vec::new(),
        };
        state.sandboxes.insert(id.clone(), Sandbox { state: sandbox, ends: BTreeMap::new() });
        Ok(id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let now = self.now_unix_ns();
        if let Some(sandbox) = self.machine.state().sandboxes.get_mut(id) {
            sandbox.state.ready = false;
            sandbox.state.ip.clear();
            for container in sandbox.state.containers.iter_mut().filter(|c| c.is_running()) {
                end(container, 137, now);
            }
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        self.machine.state().sandboxes.remove(id);
        Ok(())
    }

    async fn start_container(
        &self,
        sandbox_id: &str,
        _sandbox: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<String, RuntimeError> {
        let now = self.now_unix_ns();
        let planned = self.planned_end(spec);
        let mut state = self.machine.state();
        let id = state.id("container");
        let sandbox = state.sandboxes.get_mut(sandbox_id);
        let sandbox = sandbox.ok_or_else(|| RuntimeError::NotFound(sandbox_id.to_owned()))?;
        if let Some(planned) = planned {
            sandbox.ends.insert(id.clone(), planned);
        }
        sandbox.state.containers.push(ContainerState {
            id: id.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            phase: ContainerPhase::Running,
            created_unix_ns: now,
            started_unix_ns: now,
            image: spec.image.clone(),
            image_id: format!("hollow://{}", spec.image),
        });
        Ok(id)
    }

    async fn stop_container(&self, id: &str, _grace: Duration) -> Result<(), RuntimeError> {
        let now = self.now_unix_ns();
        if let Some(container) = self.machine.state().container(id).filter(|c| c.is_running()) {
            end(container, 143, now);
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        for sandbox in self.machine.state().sandboxes.values_mut() {
            sandbox.state.containers.retain(|c| c.id != id);
        }
        Ok(())
    }

    async fn exec(&self, id: &str, _command: &[String], _limit: Duration) -> Result<ExecOutput, RuntimeError> {
        match self.machine.state().container(id) {
            Some(container) if container.is_running() => Ok(ExecOutput::default()),
            _ => Err(RuntimeError::NotFound(id.to_owned())),
        }
    }
}
