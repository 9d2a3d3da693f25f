use k8s_openapi::api::core::v1::{ContainerState as ApiState, PodStatus};
use keelstone_agent::pod::{status, ContainerMemory, PodMemory, ProbeState};
use serde_json::json;

use super::machine::{pod, Machine};

const HOST: &str = "192.0.2.1";
const ROUNDS: usize = 50;

fn of(machine: &Machine) -> PodStatus {
    status(&machine.pod, &machine.sandboxes, &machine.memory, HOST, machine.now_unix_s)
}

fn told(state: Option<&ApiState>) -> String {
    let Some(state) = state else { return "none".into() };
    if let Some(waiting) = &state.waiting {
        return format!("waiting {}", waiting.reason.as_deref().unwrap_or("-"));
    }
    if let Some(ended) = &state.terminated {
        return format!("terminated {} {}", ended.exit_code, ended.reason.as_deref().unwrap_or("-"));
    }
    if state.running.is_some() { "running" } else { "none" }.into()
}

/// Phase, conditions that are true, and the state, last state, readiness and restarts of each container.
fn brief(status: &PodStatus) -> String {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let holds: Vec<&str> = conditions.iter().filter(|c| c.status == "True").map(|c| c.type_.as_str()).collect();
    let mut lines = vec![format!("{} [{}]", status.phase.as_deref().unwrap_or("-"), holds.join(" "))];
    let inits = status.init_container_statuses.iter().flatten();
    for c in inits.chain(status.container_statuses.iter().flatten()) {
        let (state, last) = (told(c.state.as_ref()), told(c.last_state.as_ref()));
        let ready = if c.ready { "ready" } else { "unready" };
        lines.push(format!("{}: {state}; last {last}; {ready}; restarts {}", c.name, c.restart_count));
    }
    lines.join("\n")
}

fn machine(policy: &str) -> Machine {
    let spec = json!({"restartPolicy": policy, "initContainers": [{"name": "init"}], "containers": [{"name": "a"}]});
    Machine::new(pod(spec))
}

#[test]
fn the_life_of_a_pod_is_told() {
    let mut m = machine("Always");
    let before = brief(&of(&m));
    assert_eq!(
        before,
        "Pending []\n\
         init: waiting ContainerCreating; last none; unready; restarts 0\n\
         a: waiting PodInitializing; last none; unready; restarts 0"
    );
    m.round();
    m.round();
    assert_eq!(
        brief(&of(&m)),
        "Pending [PodReadyToStartContainers]\n\
         init: running; last none; ready; restarts 0\n\
         a: waiting PodInitializing; last none; unready; restarts 0"
    );
    m.end("init", 0);
    assert!(m.settle(ROUNDS));
    assert_eq!(
        brief(&of(&m)),
        "Running [ContainersReady Initialized PodReadyToStartContainers Ready]\n\
         init: terminated 0 Completed; last none; unready; restarts 0\n\
         a: running; last none; ready; restarts 0"
    );
    m.end("a", 3);
    m.memory.containers.entry("a".into()).or_default().retry_at_unix_s = m.now_unix_s + 10;
    assert_eq!(
        brief(&of(&m)),
        "Running [Initialized PodReadyToStartContainers]\n\
         init: terminated 0 Completed; last none; unready; restarts 0\n\
         a: waiting CrashLoopBackOff; last terminated 3 Error; unready; restarts 0"
    );
    m.memory.containers.clear();
    assert!(m.settle(ROUNDS));
    assert_eq!(
        brief(&of(&m)),
        "Running [ContainersReady Initialized PodReadyToStartContainers Ready]\n\
         init: terminated 0 Completed; last none; unready; restarts 0\n\
         a: running; last terminated 3 Error; ready; restarts 1"
    );
}

#[test]
fn phases_follow_restart_policy_and_exit_codes() {
    for (policy, code, phase) in [
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Always", 0, "Running"),
        ("Always", 1, "Running"),
    ] {
        let mut m = machine(policy);
        m.exits.insert("init".into(), 0);
        assert!(m.settle(ROUNDS));
        m.end("a", code);
        assert_eq!(of(&m).phase.as_deref(), Some(phase), "{policy} {code}");
    }
    let mut m = machine("Never");
    m.exits.insert("init".into(), 1);
    assert!(m.settle(ROUNDS));
    assert_eq!(of(&m).phase.as_deref(), Some("Failed"));
}

#[test]
fn an_ended_pod_stays_ended() {
    let mut m = machine("Never");
    m.pod.status =
        Some(PodStatus { phase: Some("Succeeded".into()), pod_ip: Some("10.0.0.2".into()), ..PodStatus::default() });
    let told = of(&m);
    assert_eq!(told.phase.as_deref(), Some("Succeeded"));
    assert_eq!(told.pod_ip.as_deref(), Some("10.0.0.2"));
    m.memory.failed = Some(("Evicted".into(), "too late".into()));
    assert_eq!(of(&m).phase.as_deref(), Some("Succeeded"));
}

#[test]
fn a_refusal_is_told() {
    let mut m = machine("Always");
    m.memory = PodMemory { failed: Some(("OutOfcpu".into(), "no room".into())), ..PodMemory::default() };
    let told = of(&m);
    assert_eq!(told.phase.as_deref(), Some("Failed"));
    assert_eq!((told.reason.as_deref(), told.message.as_deref()), (Some("OutOfcpu"), Some("no room")));
}

#[test]
fn readiness_follows_probes_and_gates() {
    let container = json!({"name": "a", "readinessProbe": {"exec": {"command": ["true"]}},
                           "startupProbe": {"exec": {"command": ["true"]}}});
    let spec = json!({"containers": [container], "readinessGates": [{"conditionType": "example.com/gate"}]});
    let mut m = Machine::new(pod(spec));
    assert!(m.settle(ROUNDS));
    let ready = |m: &Machine| {
        let told = of(m);
        let holds = |name: &str| told.conditions.iter().flatten().any(|c| c.type_ == name && c.status == "True");
        let container = &told.container_statuses.as_ref().unwrap()[0];
        (container.started.unwrap(), container.ready, holds("ContainersReady"), holds("Ready"))
    };
    let verdicts = |startup, readiness| ContainerMemory { startup, readiness, ..ContainerMemory::default() };
    let (unknown, success) = (ProbeState::Unknown, ProbeState::Success);
    for (memory, expected) in [
        (verdicts(unknown, unknown), (false, false, false, false)),
        (verdicts(unknown, success), (false, false, false, false)),
        (verdicts(success, unknown), (true, false, false, false)),
        (verdicts(success, success), (true, true, true, false)),
    ] {
        m.memory.containers.insert("a".into(), memory);
        assert_eq!(ready(&m), expected);
    }
    let gate = json!([{"type": "example.com/gate", "status": "True"}]);
    m.pod.status = Some(PodStatus { conditions: serde_json::from_value(gate).unwrap(), ..PodStatus::default() });
    assert_eq!(ready(&m), (true, true, true, true));
}

#[test]
fn conditions_keep_the_time_of_their_last_change() {
    let mut m = machine("Always");
    m.exits.insert("init".into(), 0);
    assert!(m.settle(ROUNDS));
    let first = of(&m);
    m.pod.status = Some(first.clone());
    m.now_unix_s += 100;
    assert_eq!(of(&m), first, "nothing new is told while nothing changes");
    m.end("a", 1);
    let later = of(&m);
    let changed: Vec<&str> = later
        .conditions
        .iter()
        .flatten()
        .filter(|c| !first.conditions.iter().flatten().any(|o| o.last_transition_time == c.last_transition_time))
        .map(|c| c.type_.as_str())
        .collect();
    assert_eq!(changed, ["ContainersReady", "Ready"]);
}

#[test]
fn a_start_that_failed_is_told_as_waiting() {
    let mut m = Machine::new(pod(json!({"containers": [{"name": "a"}]})));
    m.round();
    let error = Some(("ErrImagePull".to_owned(), "no such image".to_owned()));
    m.memory.containers.insert("a".into(), ContainerMemory { start_error: error, ..ContainerMemory::default() });
    let told = of(&m);
    let waiting = told.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!((waiting.reason.as_deref(), waiting.message.as_deref()), (Some("ErrImagePull"), Some("no such image")));
    assert_eq!(told.phase.as_deref(), Some("Pending"));
}

#[test]
fn the_end_of_the_run_before_stays_told_when_the_runtime_forgets_it() {
    let mut m = Machine::new(pod(json!({"containers": [{"name": "a"}]})));
    assert!(m.settle(ROUNDS));
    m.lose_power();
    m.pod.status = Some(of(&m));
    assert!(m.settle(ROUNDS));
    assert_eq!(m.sandboxes.len(), 1, "the old sandbox is gone");
    for _ in 0..2 {
        let status = of(&m);
        let container = &status.container_statuses.as_ref().unwrap()[0];
        assert_eq!(told(container.state.as_ref()), "running");
        assert_eq!(told(container.last_state.as_ref()), "terminated 137 Error");
        assert_eq!(container.restart_count, 1);
        m.pod.status = Some(status);
    }
}
