//! What is said of a pod: its status, from the same things as the plan. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use super::{
    memory::{ContainerMemory, PodMemory, ProbeState},
    plan::{is_sidecar, newest},
};
use crate::runtime::{ContainerPhase, ContainerState, SandboxState};

/// The status of `pod` as it is now. Conditions that others own (PodScheduled) are kept.
pub fn status(pod: &Pod, sandboxes: &[SandboxState], memory: &PodMemory, host_ip: &str, now_unix_s: i64) -> PodStatus {
    let teller = Teller { pod, sandboxes, memory, now_unix_s };
    let spec = pod.spec.as_ref();
    let containers = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
    let inits = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
    let initialized = teller.initialized(inits, containers);
    let container_statuses: Vec<_> = containers.iter().map(|c| teller.container(c, initialized)).collect();
    let init_statuses: Vec<_> = inits.iter().map(|c| teller.container(c, true)).collect();
    let old = pod.status.clone().unwrap_or_default();
    let phase = teller.phase(&old, inits, containers);
    let host_network = spec.and_then(|s| s.host_network).unwrap_or(false);
    let sandbox = sandboxes.iter().filter(|s| s.ready).max_by_key(|s| s.attempt);
    let pod_ip = match sandbox {
        Some(_) if host_network => Some(host_ip.to_owned()),
        Some(s) => Some(s.ip.clone()).filter(|ip| !ip.is_empty()),
        // The address of a pod that ended stays known.
        None => old.pod_ip.clone().filter(|_| matches!(phase, "Succeeded" | "Failed")),
    };
    let conditions = teller.conditions(&old, phase, initialized, sandbox.is_some(), &container_statuses);
    let (reason, message) =
        memory.failed.clone().map_or((old.reason.clone(), old.message.clone()), |(r, m)| (Some(r), Some(m)));
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions),
        host_ip: Some(host_ip.to_owned()),
        host_ips: Some(vec![HostIP { ip: host_ip.to_owned() }]),
        pod_ips: pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip,
        start_time: old.start_time.clone().or_else(|| Some(time(now_unix_s))),
        container_statuses: Some(container_statuses),
        init_container_statuses: (!inits.is_empty()).then_some(init_statuses),
        observed_generation: pod.metadata.generation,
        reason,
        message,
        ..old
    }
}

fn time(unix_s: i64) -> Time {
    Time(Timestamp::from_second(unix_s).unwrap_or_default())
}

fn time_ns(unix_ns: i64) -> Time {
    time(unix_ns.div_euclid(1_000_000_000))
}

struct Teller<'a> {
    pod: &'a Pod,
    sandboxes: &'a [SandboxState],
    memory: &'a PodMemory,
    now_unix_s: i64,
}

impl Teller<'_> {
    fn restart_policy(&self) -> &str {
        self.pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always")
    }

    /// All init containers have succeeded (sidecars: have started), or the main ones exist.
    fn initialized(&self, inits: &[Container], containers: &[Container]) -> bool {
        let begun = containers.iter().any(|c| newest(self.sandboxes, &c.name).is_some());
        begun
            || inits.iter().all(|c| {
                let state = newest(self.sandboxes, &c.name);
                match is_sidecar(c) {
                    true => state.is_some_and(ContainerState::is_running),
                    false => state.is_some_and(|s| s.exit_code() == Some(0)),
                }
            })
    }

    fn phase(&self, old: &PodStatus, inits: &[Container], containers: &[Container]) -> &'static str {
        // An ended pod never lives again.
        match old.phase.as_deref() {
            Some("Succeeded") => return "Succeeded",
            Some("Failed") => return "Failed",
            _ => {}
        }
        if self.memory.failed.is_some() {
            return "Failed";
        }
        let policy = self.restart_policy();
        let init_failed = inits.iter().filter(|c| !is_sidecar(c)).any(|c| {
            let code = newest(self.sandboxes, &c.name).and_then(ContainerState::exit_code);
            policy == "Never" && code.is_some_and(|code| code != 0)
        });
        if init_failed {
            return "Failed";
        }
        let newest_of: Vec<Option<&ContainerState>> =
            containers.iter().map(|c| newest(self.sandboxes, &c.name)).collect();
        if newest_of.iter().any(Option::is_none) {
            return if newest_of.iter().any(Option::is_some) { "Running" } else { "Pending" };
        }
        let codes: Vec<Option<i32>> = newest_of.iter().flatten().map(|c| c.exit_code()).collect();
        let all_ended = codes.iter().all(Option::is_some);
        match policy {
            "Never" if all_ended => {
                if codes.iter().all(|c| *c == Some(0)) {
                    "Succeeded"
                } else {
                    "Failed"
                }
            }
            "OnFailure" if codes.iter().all(|c| *c == Some(0)) => "Succeeded",
            _ => "Running",
        }
    }

    fn container(&self, container: &Container, may_start: bool) -> ContainerStatus {
        let empty = ContainerMemory::default();
        let memory = self.memory.containers.get(&container.name).unwrap_or(&empty);
        let newest = newest(self.sandboxes, &container.name);
        let sandbox_ready = self.sandboxes.iter().any(|s| s.ready);
        let running = newest.is_some_and(|c| c.is_running()) && sandbox_ready;
        let started = running && (container.startup_probe.is_none() || memory.startup == ProbeState::Success);
        let ready = started && (container.readiness_probe.is_none() || memory.readiness == ProbeState::Success);
        let state = self.state(newest, memory, may_start);
        let last_state = self.last_state(container, newest, &state);
        ContainerStatus {
            name: container.name.clone(),
            image: newest.map_or_else(|| container.image.clone().unwrap_or_default(), |c| c.image.clone()),
            image_id: newest.map(|c| c.image_id.clone()).unwrap_or_default(),
            container_id: newest.map(|c| c.id.clone()),
            restart_count: newest.map_or(0, |c| i32::try_from(c.attempt).unwrap_or(i32::MAX)),
            ready,
            started: Some(started),
            state: Some(state),
            last_state: Some(last_state),
            ..ContainerStatus::default()
        }
    }

    fn state(&self, newest: Option<&ContainerState>, memory: &ContainerMemory, may_start: bool) -> ApiState {
        let waiting = |reason: &str, message: Option<String>| ApiState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message }),
            ..ApiState::default()
        };
        match newest {
            Some(c) if c.is_running() => ApiState {
                running: Some(ContainerStateRunning { started_at: Some(time_ns(c.started_unix_ns)) }),
                ..ApiState::default()
            },
            _ if memory.start_error.is_some() => {
                let (reason, message) = memory.start_error.clone().unwrap_or_default();
                waiting(&reason, Some(message))
            }
            Some(_) if memory.retry_at_unix_s > self.now_unix_s => {
                let pause_s = memory.retry_at_unix_s - self.now_unix_s;
                let message = format!("back-off {pause_s}s restarting failed container");
                waiting("CrashLoopBackOff", Some(message))
            }
            Some(c) => ApiState { terminated: Some(terminated(c)), ..ApiState::default() },
            None if !may_start => waiting("PodInitializing", None),
            None => waiting("ContainerCreating", self.memory.sandbox_error.clone()),
        }
    }

    /// The end of the run before this one.
    fn last_state(&self, container: &Container, newest: Option<&ContainerState>, state: &ApiState) -> ApiState {
        let before = |c: &&ContainerState| newest.is_some_and(|n| c.attempt < n.attempt);
        let all = self.sandboxes.iter().flat_map(|s| &s.containers).filter(|c| c.name == container.name);
        let last = if state.waiting.is_some() {
            newest.filter(|c| !c.is_running())
        } else {
            all.filter(before).filter(|c| c.exit_code().is_some()).max_by_key(|c| c.attempt)
        };
        let last = last.map(terminated).or_else(|| self.told_end(&container.name, newest));
        ApiState { terminated: last, ..ApiState::default() }
    }

    /// The end of the run before this one as it was told when the runtime still knew that run.
    fn told_end(&self, name: &str, newest: Option<&ContainerState>) -> Option<ContainerStateTerminated> {
        let newest = newest.filter(|c| c.attempt > 0)?;
        let status = self.pod.status.as_ref()?;
        let mut told = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        let told = told.find(|c| c.name == name)?;
        let ends = [told.state.as_ref(), told.last_state.as_ref()].into_iter().flatten();
        let mut ends = ends.filter_map(|s| s.terminated.clone());
        ends.find(|end| end.container_id.as_deref() != Some(newest.id.as_str()))
    }

    fn conditions(
        &self,
        old: &PodStatus,
        phase: &str,
        initialized: bool,
        sandbox_ready: bool,
        containers: &[ContainerStatus],
    ) -> Vec<PodCondition> {
        let unready: Vec<&str> = containers.iter().filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
        let ended = matches!(phase, "Succeeded" | "Failed");
        let containers_ready = unready.is_empty() && !ended;
        let why = match (containers_ready, phase) {
            (true, _) => None,
            (false, "Succeeded") => Some(("PodCompleted".to_owned(), String::new())),
            (false, "Failed") => Some(("PodFailed".to_owned(), String::new())),
            _ => Some((
                "ContainersNotReady".to_owned(),
                format!("containers with unready status: [{}]", unready.join(" ")),
            )),
        };
        let gates = self.gates_ready(old);
        let initialized_why = (!initialized).then(|| ("ContainersNotInitialized".to_owned(), String::new()));
        let ready_why = match (&why, gates) {
            (None, false) => Some(("ReadinessGatesNotReady".to_owned(), String::new())),
            _ => why.clone(),
        };
        let mut conditions: BTreeMap<String, PodCondition> =
            old.conditions.iter().flatten().map(|c| (c.type_.clone(), c.clone())).collect();
        for (name, holds, why) in [
            ("PodReadyToStartContainers", sandbox_ready, None),
            ("Initialized", initialized, initialized_why),
            ("ContainersReady", containers_ready, why),
            ("Ready", containers_ready && gates, ready_why),
        ] {
            self.set(&mut conditions, name, holds, why);
        }
        conditions.into_values().collect()
    }

    /// Every readiness gate of the spec has a true condition.
    fn gates_ready(&self, old: &PodStatus) -> bool {
        let gates = self.pod.spec.as_ref().and_then(|s| s.readiness_gates.as_deref()).unwrap_or_default();
        gates
            .iter()
            .all(|gate| old.conditions.iter().flatten().any(|c| c.type_ == gate.condition_type && c.status == "True"))
    }

    fn set(
        &self,
        conditions: &mut BTreeMap<String, PodCondition>,
        name: &str,
        holds: bool,
        why: Option<(String, String)>,
    ) {
        let status = if holds { "True" } else { "False" };
        let old = conditions.get(name);
        let since = old.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        let (reason, message) = why.map_or((None, None), |(r, m)| (Some(r), Some(m).filter(|m| !m.is_empty())));
        let condition = PodCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            last_transition_time: since.or_else(|| Some(time(self.now_unix_s))),
            observed_generation: self.pod.metadata.generation,
            reason,
            message,
            ..PodCondition::default()
        };
        conditions.insert(name.to_owned(), condition);
    }
}

fn terminated(container: &ContainerState) -> ContainerStateTerminated {
    let (code, finished, reason, message) = match &container.phase {
        ContainerPhase::Exited { code, finished_unix_ns, reason, message } => {
            (*code, *finished_unix_ns, reason.clone(), message.clone())
        }
        // The sandbox went down under it: as the kubelet says it.
        _ => (137, container.started_unix_ns, "ContainerStatusUnknown".into(), String::new()),
    };
    ContainerStateTerminated {
        exit_code: code,
        reason: Some(reason).filter(|r| !r.is_empty()),
        message: Some(message).filter(|m| !m.is_empty()),
        started_at: Some(time_ns(container.started_unix_ns)),
        finished_at: Some(time_ns(finished)),
        container_id: Some(container.id.clone()),
        ..ContainerStateTerminated::default()
    }
}
