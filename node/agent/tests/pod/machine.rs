//! A model of a machine: carries plans out on plain values, with a clock of its own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use keelstone_agent::{
    pod::{backoff_s, plan, Action, Plan, PodMemory},
    runtime::{ContainerPhase, ContainerState, SandboxState},
};
use serde_json::{json, Value};

pub const START_S: i64 = 1_000_000;
const NS: i64 = 1_000_000_000;

/// A pod from the interesting part of its spec.
pub fn pod(spec: Value) -> Pod {
    let metadata = json!({"name": "web", "namespace": "default", "uid": "u1"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

pub fn delete(pod: &mut Pod, now_unix_s: i64, grace_s: i64) {
    let at = k8s_openapi::jiff::Timestamp::from_second(now_unix_s + grace_s).unwrap();
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
    pod.metadata.deletion_grace_period_seconds = Some(grace_s);
}

pub struct Machine {
    pub pod: Pod,
    pub sandboxes: Vec<SandboxState>,
    pub memory: PodMemory,
    pub now_unix_s: i64,
    /// How a container of this name ends by itself, at once; others run on.
    pub exits: BTreeMap<String, i32>,
    /// Every start: container name and attempt.
    pub starts: Vec<(String, u32)>,
    next: u32,
}

fn exited(code: i32, at_unix_s: i64) -> ContainerPhase {
    let reason = if code == 0 { "Completed" } else { "Error" };
    ContainerPhase::Exited { code, finished_unix_ns: at_unix_s * NS, reason: reason.into(), message: String::new() }
}

impl Machine {
    pub fn new(pod: Pod) -> Self {
        Self {
            pod,
            sandboxes: Vec::new(),
            memory: PodMemory::default(),
            now_unix_s: START_S,
            exits: BTreeMap::new(),
            starts: Vec::new(),
            next: 0,
        }
    }

    pub fn plan(&self) -> Plan {
        plan(&self.pod, &self.sandboxes, &self.memory, self.now_unix_s)
    }

    pub fn running(&self) -> Vec<&str> {
        let all = self.sandboxes.iter().filter(|s| s.ready).flat_map(|s| &s.containers);
        all.filter(|c| c.is_running()).map(|c| c.name.as_str()).collect()
    }

    pub fn container(&mut self, name: &str) -> Option<&mut ContainerState> {
        let all = self.sandboxes.iter_mut().flat_map(|s| &mut s.containers).filter(|c| c.name == name);
        all.max_by_key(|c| c.attempt)
    }

    pub fn end(&mut self, name: &str, code: i32) {
        let now = self.now_unix_s;
        if let Some(container) = self.container(name).filter(|c| c.is_running()) {
            container.phase = exited(code, now);
        }
    }

    /// The sandboxes go down with all that ran in them.
    pub fn lose_power(&mut self) {
        let now = self.now_unix_s;
        for sandbox in &mut self.sandboxes {
            sandbox.ready = false;
            for container in sandbox.containers.iter_mut().filter(|c| c.is_running()) {
                container.phase = exited(137, now);
            }
        }
    }

    pub fn act(&mut self, action: &Action) {
        let now = self.now_unix_s;
        self.next += 1;
        match action {
            Action::StartSandbox { attempt } => self.sandboxes.push(SandboxState {
                id: format!("s{}", self.next),
                pod: Default::default(),
                attempt: *attempt,
                ready: true,
                ip: "10.0.0.2".into(),
                created_unix_ns: now * NS,
                containers: Vec::new(),
            }),
            Action::StopSandbox { id } => {
                for sandbox in self.sandboxes.iter_mut().filter(|s| s.id == *id) {
                    sandbox.ready = false;
                    for container in sandbox.containers.iter_mut().filter(|c| c.is_running()) {
                        container.phase = exited(137, now);
                    }
                }
            }
            Action::RemoveSandbox { id } => self.sandboxes.retain(|s| s.id != *id),
            Action::StartContainer { sandbox_id, name, attempt, .. } => {
                self.starts.push((name.clone(), *attempt));
                let code = self.exits.get(name).copied();
                let state = ContainerState {
                    id: format!("c{}", self.next),
                    name: name.clone(),
                    attempt: *attempt,
                    phase: code.map_or(ContainerPhase::Running, |code| exited(code, now)),
                    created_unix_ns: now * NS,
                    started_unix_ns: now * NS,
                    image: "image:1".into(),
                    image_id: "sha256:1".into(),
                };
                let sandbox = self.sandboxes.iter_mut().find(|s| s.id == *sandbox_id && s.ready);
                sandbox.expect("a container is started in a sandbox that is up").containers.push(state);
            }
            Action::StopContainer { id, .. } => {
                let all = self.sandboxes.iter_mut().flat_map(|s| &mut s.containers);
                for container in all.filter(|c| c.id == *id) {
                    container.phase = exited(143, now);
                }
            }
            Action::RemoveContainer { id } => {
                self.sandboxes.iter_mut().for_each(|s| s.containers.retain(|c| c.id != *id));
            }
            Action::Finish => assert!(self.sandboxes.is_empty(), "finished with sandboxes left"),
        }
    }

    /// Remembers ends, as the worker does.
    fn count_ends(&mut self) {
        let mut newest: BTreeMap<String, ContainerState> = BTreeMap::new();
        for container in self.sandboxes.iter().flat_map(|s| &s.containers) {
            let known = newest.entry(container.name.clone()).or_insert_with(|| container.clone());
            if known.attempt < container.attempt {
                *known = container.clone();
            }
        }
        for container in newest.into_values().filter(|c| !c.is_running()) {
            let memory = self.memory.containers.entry(container.name.clone()).or_default();
            if memory.counted != container.id {
                memory.failures += 1;
                memory.retry_at_unix_s = self.now_unix_s + backoff_s(memory.failures);
                memory.counted = container.id;
            }
        }
    }

    /// One round: plans and carries out; true if the plan had actions.
    pub fn round(&mut self) -> bool {
        self.count_ends();
        let plan = self.plan();
        for action in &plan.actions {
            self.act(action);
        }
        self.check();
        if let (true, Some(wait)) = (plan.actions.is_empty(), plan.wake_after) {
            self.now_unix_s += i64::try_from(wait.as_secs()).unwrap();
        }
        !plan.actions.is_empty()
    }

    /// Rounds until nothing is to be done now or later, or `limit` is reached; true if it became quiet.
    pub fn settle(&mut self, limit: usize) -> bool {
        for _ in 0..limit {
            self.count_ends();
            let plan = self.plan();
            if plan.actions == [Action::Finish] || plan == Plan::default() {
                return true;
            }
            self.round();
        }
        false
    }

    /// What holds in every state.
    fn check(&self) {
        let mut names = self.running();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before, "a container runs twice");
        assert!(self.sandboxes.iter().filter(|s| s.ready).count() <= 2, "sandboxes pile up");
        let mut starts = self.starts.clone();
        starts.sort();
        starts.dedup();
        assert_eq!(starts.len(), self.starts.len(), "an attempt is started twice: {:?}", self.starts);
    }
}
