//! The decision core: a pod, what the runtime shows and what is remembered, to the next actions. Total,
//! without I/O or clock. Called again after each action, so it returns only what can be done now.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::memory::{PodMemory, ProbeState};
use crate::runtime::{ContainerState, SandboxState};

/// Containers that ended are kept for `logs --previous`: so many for each name.
const ENDED_KEPT: usize = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    StartSandbox {
        attempt: u32,
    },
    /// Ends what runs in a sandbox and its network; keeps exit codes and logs.
    StopSandbox {
        id: String,
    },
    /// Forgets a sandbox that is no longer needed.
    RemoveSandbox {
        id: String,
    },
    StartContainer {
        sandbox_id: String,
        name: String,
        attempt: u32,
        init: bool,
    },
    StopContainer {
        id: String,
        name: String,
        grace_s: u64,
        why: String,
    },
    RemoveContainer {
        id: String,
    },
    /// Nothing of the pod is left on the node: its object may go.
    Finish,
}

/// What to do now, and when to look again without being woken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub wake_after: Option<Duration>,
}

/// Plans for `pod`. `sandboxes` are all of this pod's, in any order.
pub fn plan(pod: &Pod, sandboxes: &[SandboxState], memory: &PodMemory, now_unix_s: i64) -> Plan {
    let planner = Planner { pod, sandboxes, memory, now_unix_s };
    if pod.metadata.deletion_timestamp.is_some() {
        return planner.end(true);
    }
    if memory.failed.is_some() || has_ended(pod) {
        return planner.end(false);
    }
    planner.run()
}

/// The API has the pod as ended: it is never started again.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The newest container of a name, over all sandboxes.
pub(super) fn newest<'a>(sandboxes: &'a [SandboxState], name: &str) -> Option<&'a ContainerState> {
    let all = sandboxes.iter().flat_map(|s| &s.containers).filter(|c| c.name == name);
    all.max_by_key(|c| (c.attempt, c.created_unix_ns))
}

/// An init container that keeps running beside the others (restartPolicy Always).
pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What an ended (or missing) container asks for.
enum Next {
    /// It runs, or there is nothing to do.
    Stay,
    /// Start it now.
    Start,
    /// Start it after so many seconds.
    Wait(i64),
    /// It ended for good, well or badly.
    Done { well: bool },
}

struct Planner<'a> {
    pod: &'a Pod,
    sandboxes: &'a [SandboxState],
    memory: &'a PodMemory,
    now_unix_s: i64,
}

impl Planner<'_> {
    /// Everything of the pod is ended; with `finish`, forgotten as well.
    fn end(&self, finish: bool) -> Plan {
        let mut actions = Vec::new();
        let grace_s = if finish { self.deletion_grace_s() } else { self.spec_grace_s() };
        let all = self.sandboxes.iter().flat_map(|s| &s.containers);
        self.stop(all, grace_s, &mut actions);
        if actions.is_empty() {
            let ready = self.sandboxes.iter().filter(|s| s.ready);
            actions.extend(ready.map(|s| Action::StopSandbox { id: s.id.clone() }));
        }
        if finish && actions.is_empty() {
            actions.extend(self.sandboxes.iter().map(|s| Action::RemoveSandbox { id: s.id.clone() }));
            if actions.is_empty() {
                actions.push(Action::Finish);
            }
        }
        Plan { actions, wake_after: None }
    }

    /// Stops what runs of `containers`: sidecars only once no other container runs.
    fn stop<'c>(&self, containers: impl Iterator<Item = &'c ContainerState>, grace_s: u64, actions: &mut Vec<Action>) {
        let inits = self.pod.spec.as_ref().and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
        let is_last = |c: &&ContainerState| inits.iter().any(|i| i.name == c.name && is_sidecar(i));
        let running: Vec<&ContainerState> = containers.filter(|c| c.is_running()).collect();
        let (last, first): (Vec<&ContainerState>, Vec<&ContainerState>) = running.into_iter().partition(is_last);
        let now = if first.is_empty() { last } else { first };
        actions.extend(now.into_iter().map(|c| Action::StopContainer {
            id: c.id.clone(),
            name: c.name.clone(),
            grace_s,
            why: "Stopping container".into(),
        }));
    }

    fn spec_grace_s(&self) -> u64 {
        let seconds = self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
        u64::try_from(seconds).unwrap_or(0)
    }

    /// The deletion's own grace period counts from the deletion, not from when the agent heard of it.
    fn deletion_grace_s(&self) -> u64 {
        let grace = self.pod.metadata.deletion_grace_period_seconds;
        let grace = grace.map_or_else(|| self.spec_grace_s(), |g| u64::try_from(g).unwrap_or(0));
        let until = self.pod.metadata.deletion_timestamp.as_ref().map(|t| t.0.as_second());
        let left = until.map_or(0, |until| u64::try_from(until.saturating_sub(self.now_unix_s)).unwrap_or(0));
        // A container gets at least a moment to end by itself.
        grace.min(left.max(1))
    }

    fn run(&self) -> Plan {
        let Some(spec) = &self.pod.spec else { return Plan::default() };
        let current = self.sandboxes.iter().filter(|s| s.ready).max_by_key(|s| s.attempt);
        let Some(sandbox) = current else { return self.without_sandbox() };
        let mut plan = Plan::default();
        self.remove_sandboxes(sandbox, &mut plan);
        if self.init_containers(sandbox, &mut plan) {
            let mut all_done = true;
            for container in &spec.containers {
                match self.next(container, false) {
                    Next::Done { .. } => {}
                    next => {
                        all_done = false;
                        self.act(sandbox, container, false, next, &mut plan);
                    }
                }
            }
            if all_done {
                plan.actions.extend(self.stop_all(sandbox));
            }
        }
        self.remove_old(sandbox, &mut plan);
        plan
    }

    /// Ends sandboxes other than the current one, and forgets those that no longer count: while one has the
    /// newest run of a container, it knows the restart count and how that run ended.
    fn remove_sandboxes(&self, current: &SandboxState, plan: &mut Plan) {
        let spec = self.pod.spec.as_ref();
        let inits = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
        let mains = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
        let counts = |sandbox: &SandboxState| {
            let mut newest = inits.iter().chain(mains).filter_map(|c| newest(self.sandboxes, &c.name));
            newest.any(|n| sandbox.containers.iter().any(|c| c.id == n.id))
        };
        for old in self.sandboxes.iter().filter(|s| s.id != current.id) {
            let id = old.id.clone();
            if old.ready {
                plan.actions.push(Action::StopSandbox { id });
            } else if !counts(old) {
                plan.actions.push(Action::RemoveSandbox { id });
            }
        }
    }

    /// True once the main containers may start.
    fn init_containers(&self, sandbox: &SandboxState, plan: &mut Plan) -> bool {
        let spec = self.pod.spec.as_ref();
        let mains = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
        // Once a main container has existed in this sandbox, the init containers are over; only sidecars go on.
        // In a new sandbox they run again.
        let here = std::slice::from_ref(sandbox);
        let begun = mains.iter().any(|c| newest(here, &c.name).is_some());
        for container in spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default() {
            let sidecar = is_sidecar(container);
            if begun && !sidecar {
                continue;
            }
            let next = match newest(here, &container.name) {
                Some(_) => self.next(container, true),
                None => self.after_backoff(container),
            };
            match next {
                Next::Done { well: true } => {}
                Next::Done { well: false } => {
                    plan.actions.extend(self.stop_all(sandbox));
                    return false;
                }
                Next::Stay if sidecar && self.started(container) => {}
                next => {
                    self.act(sandbox, container, true, next, plan);
                    if !begun {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// A sidecar lets the next container start once its startup probe, if any, has succeeded.
    fn started(&self, container: &Container) -> bool {
        let memory = self.memory.containers.get(&container.name);
        container.startup_probe.is_none() || memory.is_some_and(|m| m.startup == ProbeState::Success)
    }

    fn stop_all(&self, sandbox: &SandboxState) -> Vec<Action> {
        let mut actions = Vec::new();
        self.stop(sandbox.containers.iter(), self.spec_grace_s(), &mut actions);
        if actions.is_empty() {
            actions.push(Action::StopSandbox { id: sandbox.id.clone() });
        }
        actions
    }

    /// Starts a sandbox unless all that was to run has ended for good.
    fn without_sandbox(&self) -> Plan {
        let spec = self.pod.spec.as_ref();
        let mains = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
        let all_done = mains.iter().all(|c| matches!(self.next(c, false), Next::Done { .. }));
        let inits = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
        let init_failed = inits.iter().any(|c| matches!(self.next(c, true), Next::Done { well: false }));
        if (all_done && !mains.is_empty()) || init_failed {
            return Plan::default();
        }
        let wait = self.memory.sandbox_retry_at_unix_s.saturating_sub(self.now_unix_s);
        if wait > 0 {
            return Plan { actions: Vec::new(), wake_after: Some(seconds(wait)) };
        }
        let last = self.sandboxes.iter().max_by_key(|s| s.attempt);
        let attempt = last.map_or(0, |s| s.attempt.saturating_add(1));
        let mut plan = Plan { actions: vec![Action::StartSandbox { attempt }], wake_after: None };
        if let Some(last) = last {
            self.remove_sandboxes(last, &mut plan);
        }
        plan
    }

    fn next(&self, container: &Container, init: bool) -> Next {
        let memory = self.memory.containers.get(&container.name);
        let Some(newest) = newest(self.sandboxes, &container.name) else { return self.after_backoff(container) };
        let in_ready_sandbox = self.sandboxes.iter().any(|s| s.ready && s.containers.iter().any(|c| c.id == newest.id));
        if newest.is_running() && in_ready_sandbox {
            return Next::Stay;
        }
        let code = newest.exit_code().unwrap_or(137);
        let pod_policy = self.pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always");
        let policy = match container.restart_policy.as_deref() {
            Some(own) => own,
            // An init container is repeated until it succeeds; success is final.
            None if init && pod_policy == "Always" => "OnFailure",
            None => pod_policy,
        };
        // A container that was stopped because its liveness probe failed is restarted, whatever its code.
        let killed_by_probe = memory.is_some_and(|m| m.liveness == ProbeState::Failure);
        match policy {
            "Never" => Next::Done { well: code == 0 },
            "OnFailure" if code == 0 && !killed_by_probe => Next::Done { well: true },
            _ => self.after_backoff(container),
        }
    }

    fn after_backoff(&self, container: &Container) -> Next {
        let retry_at = self.memory.containers.get(&container.name).map_or(0, |m| m.retry_at_unix_s);
        match retry_at.saturating_sub(self.now_unix_s) {
            wait if wait > 0 => Next::Wait(wait),
            _ => Next::Start,
        }
    }

    fn act(&self, sandbox: &SandboxState, container: &Container, init: bool, next: Next, plan: &mut Plan) {
        match next {
            Next::Start => {
                let attempt = newest(self.sandboxes, &container.name).map_or(0, |c| c.attempt.saturating_add(1));
                let (sandbox_id, name) = (sandbox.id.clone(), container.name.clone());
                plan.actions.push(Action::StartContainer { sandbox_id, name, attempt, init });
            }
            Next::Wait(wait) => {
                let wait = seconds(wait);
                plan.wake_after = Some(plan.wake_after.map_or(wait, |known| known.min(wait)));
            }
            Next::Stay => self.stop_unhealthy(container, plan),
            Next::Done { .. } => {}
        }
    }

    /// Ends a running container whose liveness or startup probe has failed.
    fn stop_unhealthy(&self, container: &Container, plan: &mut Plan) {
        let Some(memory) = self.memory.containers.get(&container.name) else { return };
        let probe = match (memory.startup, memory.liveness) {
            (ProbeState::Failure, _) => "startup",
            (_, ProbeState::Failure) => "liveness",
            _ => return,
        };
        if let Some(running) = newest(self.sandboxes, &container.name).filter(|c| c.is_running()) {
            let why = format!("Container {} failed {probe} probe, will be restarted", container.name);
            let (id, name) = (running.id.clone(), running.name.clone());
            plan.actions.push(Action::StopContainer { id, name, grace_s: self.spec_grace_s(), why });
        }
    }

    /// Forgets ended containers beyond those that are kept for their logs.
    fn remove_old(&self, sandbox: &SandboxState, plan: &mut Plan) {
        let mut ended: Vec<&ContainerState> = sandbox.containers.iter().filter(|c| !c.is_running()).collect();
        ended.sort_by_key(|c| (c.name.clone(), std::cmp::Reverse(c.attempt)));
        let mut kept: (&str, usize) = ("", 0);
        for container in ended {
            if kept.0 != container.name {
                kept = (&container.name, 0);
            }
            kept.1 += 1;
            let newest = newest(self.sandboxes, &container.name).is_some_and(|n| n.id == container.id);
            if kept.1 > ENDED_KEPT && !newest {
                plan.actions.push(Action::RemoveContainer { id: container.id.clone() });
            }
        }
    }
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}
