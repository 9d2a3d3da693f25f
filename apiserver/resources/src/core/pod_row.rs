//! The row of a pod in the Table form: what kubectl shows as READY, STATUS and RESTARTS.

use keelstone_registry::Column;
use serde_json::Value;

use super::pod::is_finished;
use crate::columns::{self, column, wide, NONE};
use crate::json::{at, flag, has, int, items, text};

pub static COLUMNS: &[Column] = &[
    columns::NAME,
    column("Ready", "string", "How many of the pod's containers are ready."),
    column("Status", "string", "The state of the pod and its containers in one word."),
    column("Restarts", "string", "How often the pod's containers were restarted, and when last."),
    columns::AGE,
    wide("IP", "string", "The address of the pod."),
    wide("Node", "string", "The node that the pod is bound to."),
    wide("Nominated Node", "string", "The node that is being made free for the pod."),
    wide("Readiness Gates", "string", "How many of the pod's readiness gates are true."),
];

/// The reason of a pod whose node is lost.
const NODE_LOST: &str = "NodeLost";

/// Restarts, and the end of the last run before one.
#[derive(Default)]
struct Restarts {
    count: i64,
    last_unix_s: Option<i64>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += int(container, "restartCount").unwrap_or(0);
        let ended = columns::unix_s(text(container, "lastState.terminated.finishedAt"));
        self.last_unix_s = self.last_unix_s.max(ended);
    }

    fn text(&self, now_unix_s: i64) -> String {
        match self.last_unix_s {
            Some(last) if self.count != 0 => {
                format!("{} ({} ago)", self.count, columns::human_duration(now_unix_s.saturating_sub(last)))
            }
            _ => self.count.to_string(),
        }
    }
}

/// What is gathered from the statuses of all containers.
struct Summary {
    ready: i64,
    reason: String,
    restarts: Restarts,
}

/// An init container that keeps running beside the others.
fn is_sidecar(pod: &Value, name: &str) -> bool {
    items(pod, "spec.initContainers").iter().any(|c| text(c, "name") == name && text(c, "restartPolicy") == "Always")
}

fn condition_is_true(pod: &Value, kind: &str) -> bool {
    text(columns::condition(pod, kind), "status") == "True"
}

/// How a container ended: its reason, or its signal or exit code.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match int(terminated, "signal") {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", int(terminated, "exitCode").unwrap_or(0)),
    }
}

fn first_reason(pod: &Value) -> String {
    if text(columns::condition(pod, "PodScheduled"), "reason") == "SchedulingGated" {
        return "SchedulingGated".into();
    }
    match text(pod, "status.reason") {
        "" => text(pod, "status.phase"),
        reason => reason,
    }
    .to_owned()
}

/// Looks at the init containers; true if the pod is still initializing.
fn init_containers(pod: &Value, summary: &mut Summary, sidecars: &mut Restarts) -> bool {
    let total = items(pod, "spec.initContainers").len();
    for (index, container) in items(pod, "status.initContainerStatuses").iter().enumerate() {
        summary.restarts.add(container);
        let sidecar = is_sidecar(pod, text(container, "name"));
        if sidecar {
            sidecars.add(container);
        }
        let terminated = at(container, "state.terminated");
        let waiting = text(container, "state.waiting.reason");
        if !terminated.is_null() && int(terminated, "exitCode").unwrap_or(0) == 0 {
            continue;
        }
        if sidecar && flag(container, "started") {
            summary.ready += i64::from(flag(container, "ready"));
            continue;
        }
        summary.reason = if !terminated.is_null() {
            format!("Init:{}", ended(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{total}")
        };
        return true;
    }
    false
}

fn containers(pod: &Value, summary: &mut Summary) {
    let mut any_running = false;
    for container in items(pod, "status.containerStatuses").iter().rev() {
        summary.restarts.add(container);
        let terminated = at(container, "state.terminated");
        let waiting = text(container, "state.waiting.reason");
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if !terminated.is_null() {
            summary.reason = ended(terminated);
        } else if flag(container, "ready") && has(container, "state.running") {
            any_running = true;
            summary.ready += 1;
        }
    }
    // One container that completed does not make a pod with others completed.
    if summary.reason == "Completed" && any_running {
        summary.reason = if condition_is_true(pod, "Ready") { "Running" } else { "NotReady" }.into();
    }
}

fn summarize(pod: &Value) -> Summary {
    let mut summary = Summary { ready: 0, reason: first_reason(pod), restarts: Restarts::default() };
    let mut sidecars = Restarts::default();
    let initializing = init_containers(pod, &mut summary, &mut sidecars);
    if !initializing || condition_is_true(pod, "Initialized") {
        summary.restarts = sidecars;
        containers(pod, &mut summary);
    }
    if has(pod, "metadata.deletionTimestamp") {
        if text(pod, "status.reason") == NODE_LOST {
            summary.reason = "Unknown".into();
        } else if !is_finished(pod) {
            summary.reason = "Terminating".into();
        }
    }
    summary
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, "spec.readinessGates");
    if gates.is_empty() {
        return NONE.into();
    }
    let ready = gates.iter().filter(|gate| condition_is_true(pod, text(gate, "conditionType"))).count();
    format!("{ready}/{}", gates.len())
}

pub fn row(pod: &Value, now_unix_s: i64) -> Vec<Value> {
    let summary = summarize(pod);
    let sidecars = items(pod, "spec.initContainers").iter().filter(|c| text(c, "restartPolicy") == "Always").count();
    let total = items(pod, "spec.containers").len() + sidecars;
    vec![
        columns::name(pod),
        format!("{}/{total}", summary.ready).into(),
        summary.reason.into(),
        summary.restarts.text(now_unix_s).into(),
        columns::age(pod, now_unix_s),
        columns::or_none(items(pod, "status.podIPs").first().map_or(text(pod, "status.podIP"), |ip| text(ip, "ip"))),
        columns::or_none(text(pod, "spec.nodeName")),
        columns::or_none(text(pod, "status.nominatedNodeName")),
        readiness_gates(pod).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: usize, status: Value) -> Value {
        let list: Vec<Value> = (0..containers).map(|i| json!({"name": format!("c{i}")})).collect();
        json!({"metadata": {"name": "p"}, "spec": {"containers": list}, "status": status})
    }

    fn shown(pod: &Value) -> [String; 3] {
        let cells = row(pod, 1000);
        [1, 2, 3].map(|i| cells[i].as_str().unwrap_or("?").to_owned())
    }

    fn running(restarts: i64) -> Value {
        json!({"ready": true, "restartCount": restarts, "state": {"running": {}}})
    }

    #[test]
    fn states_of_containers() {
        let crash = json!({
            "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "1970-01-01T00:15:00Z"}},
        });
        let done = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let killed = json!({"state": {"terminated": {"exitCode": 137, "signal": 9}}});
        for (status, expected) in [
            (json!({"phase": "Pending"}), ["0/1", "Pending", "0"]),
            (json!({"phase": "Running", "containerStatuses": [running(0)]}), ["1/1", "Running", "0"]),
            (json!({"phase": "Running", "containerStatuses": [crash]}), ["0/1", "CrashLoopBackOff", "3 (100s ago)"]),
            (json!({"phase": "Succeeded", "containerStatuses": [done]}), ["0/1", "Completed", "0"]),
            (json!({"phase": "Failed", "containerStatuses": [killed]}), ["0/1", "Signal:9", "0"]),
            (json!({"phase": "Failed", "reason": "Evicted"}), ["0/1", "Evicted", "0"]),
        ] {
            assert_eq!(shown(&pod(1, status)), expected);
        }
    }

    #[test]
    fn one_completed_beside_one_running() {
        let done = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let mut both = pod(2, json!({"phase": "Running", "containerStatuses": [done, running(1)]}));
        assert_eq!(shown(&both), ["1/2", "NotReady", "1"]);
        both["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        assert_eq!(shown(&both), ["1/2", "Running", "1"]);
    }

    #[test]
    fn init_containers_come_first() {
        let with_init = |state: Value| {
            let mut pod = pod(
                1,
                json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i0", "state": {"terminated": {"exitCode": 0}}}, {"name": "i1", "state": state, "restartCount": 2}]}),
            );
            pod["spec"]["initContainers"] = json!([{"name": "i0"}, {"name": "i1"}]);
            shown(&pod)
        };
        assert_eq!(with_init(json!({"running": {}})), ["0/1", "Init:1/2", "2"]);
        assert_eq!(with_init(json!({"waiting": {"reason": "PodInitializing"}})), ["0/1", "Init:1/2", "2"]);
        assert_eq!(with_init(json!({"waiting": {"reason": "CrashLoopBackOff"}}))[1], "Init:CrashLoopBackOff");
        assert_eq!(with_init(json!({"terminated": {"exitCode": 1, "reason": "Error"}}))[1], "Init:Error");
        assert_eq!(with_init(json!({"terminated": {"exitCode": 1}}))[1], "Init:ExitCode:1");
    }

    #[test]
    fn sidecars_count_as_containers() {
        let mut pod = pod(
            1,
            json!({"phase": "Running", "containerStatuses": [running(0)],
            "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 4, "state": {"running": {}}}]}),
        );
        pod["spec"]["initContainers"] = json!([{"name": "s", "restartPolicy": "Always"}]);
        assert_eq!(shown(&pod), ["2/2", "Running", "4"]);
    }

    #[test]
    fn deletion_shows() {
        let mut going = pod(1, json!({"phase": "Running", "containerStatuses": [running(0)]}));
        going["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:00Z".into();
        assert_eq!(shown(&going)[1], "Terminating");
        going["status"]["reason"] = "NodeLost".into();
        assert_eq!(shown(&going)[1], "Unknown");
        going["status"] = json!({"phase": "Succeeded"});
        assert_eq!(shown(&going)[1], "Succeeded");
    }

    #[test]
    fn wide_cells() {
        let mut pod = pod(1, json!({"podIPs": [{"ip": "10.1.0.2"}], "conditions": [{"type": "g", "status": "True"}]}));
        pod["spec"]["nodeName"] = "w1".into();
        pod["spec"]["readinessGates"] = json!([{"conditionType": "g"}, {"conditionType": "h"}]);
        assert_eq!(row(&pod, 0)[5..], [json!("10.1.0.2"), json!("w1"), json!("<none>"), json!("1/2")]);
    }
}
