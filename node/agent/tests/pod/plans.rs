use keelstone_agent::pod::{Action, ContainerMemory, ProbeState};
use serde_json::json;

use super::machine::{delete, pod, Machine};

const ROUNDS: usize = 50;

fn containers(names: &[&str]) -> serde_json::Value {
    names.iter().map(|n| json!({"name": n})).collect()
}

#[test]
fn a_pod_is_started_in_order() {
    let inits = json!([{"name": "init"}, {"name": "side", "restartPolicy": "Always"}]);
    let mut machine = Machine::new(pod(json!({"initContainers": inits, "containers": containers(&["a", "b"])})));
    machine.exits.insert("init".into(), 0);
    assert_eq!(machine.plan().actions, [Action::StartSandbox { attempt: 0 }]);
    assert!(machine.settle(ROUNDS));
    let order: Vec<&str> = machine.starts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(order, ["init", "side", "a", "b"]);
    assert_eq!(machine.running(), ["side", "a", "b"]);
}

#[test]
fn an_init_container_that_fails_holds_the_pod_back() {
    for (policy, starts) in [("Always", 6), ("OnFailure", 6), ("Never", 1)] {
        let spec =
            json!({"restartPolicy": policy, "initContainers": containers(&["init"]), "containers": containers(&["a"])});
        let mut machine = Machine::new(pod(spec));
        machine.exits.insert("init".into(), 1);
        for _ in 0..12 {
            machine.round();
        }
        assert!(machine.starts.iter().all(|(name, _)| name == "init"), "{policy}");
        assert!(machine.starts.len() <= starts && !machine.starts.is_empty(), "{policy}: {:?}", machine.starts);
        if policy == "Never" {
            assert!(machine.settle(ROUNDS));
            assert!(machine.sandboxes.iter().all(|s| !s.ready));
        }
    }
}

#[test]
fn restart_policies_hold() {
    for (policy, code, restarts) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ] {
        let mut machine =
            Machine::new(pod(json!({"restartPolicy": policy, "containers": containers(&["once", "other"])})));
        assert!(machine.settle(ROUNDS));
        machine.end("once", code);
        assert!(machine.settle(ROUNDS));
        let starts = machine.starts.iter().filter(|(name, _)| name == "once").count();
        assert_eq!(starts, if restarts { 2 } else { 1 }, "{policy} {code}");
        assert!(machine.running().contains(&"other"), "{policy} {code}");
        // When all have ended for good, the sandbox goes down; nothing is started again.
        if !restarts {
            machine.end("other", 0);
            assert!(machine.settle(ROUNDS));
            assert!(machine.sandboxes.iter().all(|s| !s.ready), "{policy} {code}");
            assert_eq!(machine.starts.len(), 2, "{policy} {code}");
        }
    }
}

#[test]
fn a_crash_loop_slows_down_and_keeps_one_run_before() {
    let mut machine = Machine::new(pod(json!({"containers": containers(&["a"])})));
    machine.exits.insert("a".into(), 1);
    let mut pauses = Vec::new();
    for _ in 0..60 {
        let before = machine.now_unix_s;
        machine.round();
        pauses.extend(Some(machine.now_unix_s - before).filter(|p| *p > 0));
        let kept: usize = machine.sandboxes.iter().map(|s| s.containers.len()).sum();
        assert!(kept <= 3, "{kept} runs are kept");
    }
    assert_eq!(pauses[..6], [10, 20, 40, 80, 160, 300]);
}

#[test]
fn a_lost_sandbox_is_replaced_and_init_containers_run_again() {
    let spec = json!({"initContainers": containers(&["init"]), "containers": containers(&["a"])});
    let mut machine = Machine::new(pod(spec));
    machine.exits.insert("init".into(), 0);
    assert!(machine.settle(ROUNDS));
    machine.lose_power();
    assert_eq!(machine.plan().actions, [Action::StartSandbox { attempt: 1 }]);
    assert!(machine.settle(ROUNDS));
    assert_eq!(machine.starts.len(), 4, "{:?}", machine.starts);
    assert_eq!(machine.starts[2..], [("init".to_owned(), 1), ("a".to_owned(), 1)]);
    assert_eq!(machine.sandboxes.len(), 1);
}

#[test]
fn a_pod_that_never_restarts_is_not_started_on_a_new_sandbox() {
    let mut machine = Machine::new(pod(json!({"restartPolicy": "Never", "containers": containers(&["a"])})));
    assert!(machine.settle(ROUNDS));
    machine.lose_power();
    assert!(machine.settle(ROUNDS));
    assert_eq!(machine.starts.len(), 1);
}

#[test]
fn a_failed_probe_ends_the_container() {
    let mut machine = Machine::new(pod(json!({"terminationGracePeriodSeconds": 7, "containers": containers(&["a"])})));
    assert!(machine.settle(ROUNDS));
    let memory = ContainerMemory { liveness: ProbeState::Failure, ..ContainerMemory::default() };
    machine.memory.containers.insert("a".into(), memory);
    match &machine.plan().actions[..] {
        [Action::StopContainer { grace_s: 7, why, .. }] => {
            assert_eq!(why, "Container a failed liveness probe, will be restarted");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_startup_probe_holds_back_what_follows_a_sidecar() {
    let side = json!([{"name": "side", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["true"]}}}]);
    let mut machine = Machine::new(pod(json!({"initContainers": side, "containers": containers(&["a"])})));
    assert!(machine.settle(ROUNDS));
    assert_eq!(machine.running(), ["side"]);
    machine.memory.containers.entry("side".into()).or_default().startup = ProbeState::Success;
    assert!(machine.settle(ROUNDS));
    assert_eq!(machine.running(), ["side", "a"]);
}

#[test]
fn deletion_ends_everything_sidecars_last() {
    let inits = json!([{"name": "side", "restartPolicy": "Always"}]);
    let spec =
        json!({"terminationGracePeriodSeconds": 30, "initContainers": inits, "containers": containers(&["a", "b"])});
    let mut machine = Machine::new(pod(spec));
    assert!(machine.settle(ROUNDS));
    delete(&mut machine.pod, machine.now_unix_s, 20);
    machine.now_unix_s += 5;
    let stopped = |machine: &Machine| -> Vec<(String, u64)> {
        let actions = machine.plan().actions.into_iter();
        let stop = |a| match a {
            Action::StopContainer { name, grace_s, .. } => Some((name, grace_s)),
            _ => None,
        };
        actions.filter_map(stop).collect()
    };
    // The grace period counts from the deletion.
    assert_eq!(stopped(&machine), [("a".to_owned(), 15), ("b".to_owned(), 15)]);
    machine.round();
    machine.now_unix_s += 100;
    // It is over, but a moment is always left.
    assert_eq!(stopped(&machine), [("side".to_owned(), 1)]);
    assert!(machine.settle(ROUNDS));
    assert_eq!(machine.plan().actions, [Action::Finish]);
}

#[test]
fn a_pod_that_was_refused_is_not_started() {
    let mut machine = Machine::new(pod(json!({"containers": containers(&["a"])})));
    machine.memory.failed = Some(("OutOfcpu".into(), String::new()));
    assert!(machine.settle(ROUNDS));
    assert!(machine.starts.is_empty() && machine.sandboxes.is_empty());
}

#[test]
fn a_sandbox_that_failed_is_tried_again_later() {
    let mut machine = Machine::new(pod(json!({"containers": containers(&["a"])})));
    machine.memory.sandbox_retry_at_unix_s = machine.now_unix_s + 2;
    let plan = machine.plan();
    assert!(plan.actions.is_empty());
    assert_eq!(plan.wake_after.unwrap().as_secs(), 2);
}
