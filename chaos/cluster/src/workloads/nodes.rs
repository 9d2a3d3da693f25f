//! A Deployment that nobody touches, watched from outside: are its pods evicted when, and only when, their node is lost;
//! and do their processes run on while all masters are away?

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use keelstone_chaos_bed::{Failure, Outcome};
use keelstone_chaos_store::{
    record::NEMESIS,
    workloads::{typed, Actor, Workload},
    Class, Cluster, Line, Reply,
};
use keelstone_checkers::{
    node_times::{self, Bounds, Change, Loss, What, Window},
    objects::{changes, text, Change as Object},
    untouched::{self, Away, Sample},
    Event, Violation,
};
use serde_json::{json, Value};

use super::{deployment, items_ready, make, make_namespace, ready, until};
use crate::{
    api::{is, items, Api},
    constants::{CONVERGE_MAX, NODES_READY_MAX},
    nemeses::{takes_all_masters, WORKER_FAULTS, WORKER_LOSSES},
    processes,
    windows::Windows,
    Timings,
};

/// The namespace, and the name, of the Deployment that nobody touches.
pub const STEADY: &str = "steady";
const REPLICAS: u64 = 4;
/// How often the processes are looked at.
const LOOK: Duration = Duration::from_millis(700);
const SECOND_US: u64 = 1_000_000;

#[derive(Debug)]
pub struct Nodes {
    api: Arc<Api>,
    workers: usize,
    /// Of the cluster.
    timings: Timings,
}

fn pods() -> String {
    format!("/api/v1/namespaces/{STEADY}/pods")
}

impl Nodes {
    pub fn new(api: Arc<Api>, workers: usize, timings: Timings) -> Self {
        Self { api, workers, timings }
    }

    async fn all_run(&self, limit: Duration) -> Result<Value, String> {
        until(&self.api, &pods(), limit, |list| items_ready(list, REPLICAS)).await
    }
}

#[async_trait]
impl Workload for Nodes {
    fn name(&self) -> &'static str {
        "nodes"
    }

    async fn prepare(&self, _cluster: &Cluster) -> Outcome<()> {
        let all = |list: &Value| {
            let count = items(list).filter(|n| is(n, "Ready")).count();
            (count == self.workers).then_some(()).ok_or(format!("{count} of {} nodes are Ready", self.workers))
        };
        let nodes = until(&self.api, "/api/v1/nodes", NODES_READY_MAX, all).await;
        nodes.map_err(|said| Failure::impossible(format!("the workers: {said}")))?;
        make_namespace(&self.api, STEADY).await?;
        let collection = format!("/apis/apps/v1/namespaces/{STEADY}/deployments");
        make(&self.api, &collection, &deployment(STEADY, STEADY, REPLICAS)).await?;
        let there = self.all_run(CONVERGE_MAX).await;
        there.map(drop).map_err(|said| Failure::impossible(format!("the steady pods: {said}")))
    }

    /// Each client asks its master's member who leads; the first also looks at the processes.
    async fn turn(&self, actor: &mut Actor) {
        let start_us = actor.now_us();
        if self.api.masters().first() == Some(&actor.host) {
            let at_us = start_us;
            let found = tokio::task::spawn_blocking(|| processes::of_pods(STEADY)).await.unwrap_or_default();
            actor.record(start_us, "processes", Class::Info, false, &Sample { at_us, pods: found });
        }
        let start_us = actor.now_us();
        let status = actor.client.status().await;
        let class = status.class();
        let told = match status {
            Reply::Ok(s) => {
                let own = s.header.as_ref().map_or(0, |h| h.member_id);
                json!({"leads": own != 0 && own == s.leader, "term": s.raft_term, "applied": s.raft_applied_index})
            }
            Reply::Failed(error) | Reply::Unknown(error) => json!(error),
        };
        actor.record(start_us, "status", class, false, &told);
        tokio::time::sleep(LOOK).await;
    }

    async fn finish(&self, actor: &mut Actor) -> Outcome<()> {
        let start_us = actor.now_us();
        let ended = self.all_run(CONVERGE_MAX).await;
        let told = match &ended {
            Ok(list) => json!({"ready": ready(list).len()}),
            Err(said) => json!({"complaint": said}),
        };
        actor.record(start_us, "end", Class::Info, false, &told);
        actor.record(start_us, "timings", Class::Info, false, &self.timings);
        Ok(())
    }

    /// Calls with revisions tell when a revision came to be, faults when a loss was.
    fn sources(&self) -> Vec<&'static str> {
        vec![self.name(), "objects", NEMESIS]
    }

    fn check(&self, lines: &[&Line], log: &[Event]) -> Result<(), Violation> {
        for end in lines.iter().filter(|l| l.source == self.name() && l.kind == "end") {
            if let Some(said) = end.what["complaint"].as_str() {
                return Err(Violation::new("replicas converge", format!("the steady pods: {said}")));
            }
        }
        let told = typed::<Timings>(lines, &["timings"])?.pop();
        let windows = Windows::of(lines);
        let log = changes(log);
        let seen = node_changes(&log, &windows);
        let faults: Vec<&Line> = lines.iter().copied().filter(|l| l.source == NEMESIS).collect();
        node_times::check(&seen, &losses(&faults, &log, &windows), bounds(told.unwrap_or(Timings::FAST)))?;
        let samples = typed::<Sample>(lines, &["processes"])?;
        times_away(&faults, &seen).iter().try_for_each(|away| untouched::check(&samples, away))
    }
}

fn bounds(t: Timings) -> Bounds {
    Bounds {
        grace_us: t.node_grace_s * SECOND_US,
        // Kubernetes' times have whole seconds.
        toleration_us: (t.toleration_s - 1) * SECOND_US,
        slack_us: t.slack_s() * SECOND_US,
        race_us: 3 * SECOND_US,
    }
}

/// What happened to the nodes and the steady pods, in the order of the log.
pub fn node_changes(log: &[Object], windows: &Windows) -> Vec<Change> {
    let mut seen = Vec::new();
    // By node: Ready, and the last heartbeat.
    let mut nodes: BTreeMap<&str, (String, String)> = BTreeMap::new();
    let mut leaving: BTreeSet<&str> = BTreeSet::new();
    for change in log {
        let Some(object) = &change.object else {
            leaving.remove(change.name.as_str());
            continue;
        };
        let at = Window { after_us: windows.after_us(change.revision), before_us: windows.before_us(change.revision) };
        let mut add = |node: &str, what: What| seen.push(Change { node: node.to_owned(), what, at });
        match change.resource.as_str() {
            "leases" => {
                if let Some(node) = change.name.strip_prefix("kube-node-lease/") {
                    add(node, What::Alive);
                }
            }
            "nodes" => {
                let ready = object["status"]["conditions"].as_array().into_iter().flatten();
                let Some(ready) = ready.into_iter().find(|c| c["type"] == "Ready") else { continue };
                let (status, beat) = (text(&ready["status"]).to_owned(), text(&ready["lastHeartbeatTime"]).to_owned());
                let before = nodes.insert(&change.name, (status.clone(), beat.clone())).unwrap_or_default();
                if status != "Unknown" && before.1 != beat {
                    add(&change.name, What::Alive);
                }
                match status.as_str() {
                    new if new == before.0 => {}
                    "Unknown" => add(&change.name, What::Silent),
                    "True" if !before.0.is_empty() => add(&change.name, What::Back),
                    "False" if !before.0.is_empty() => add(&change.name, What::Unready),
                    _ => {}
                }
            }
            "pods" if change.name.starts_with(&format!("{STEADY}/")) => {
                let node = text(&object["spec"]["nodeName"]);
                let finished = keelstone_checkers::objects::is_finished(object);
                let told = !object["metadata"]["deletionTimestamp"].is_null();
                if told && leaving.insert(&change.name) && !finished && !node.is_empty() {
                    add(node, What::Evicted { pod: change.name.clone() });
                }
            }
            _ => {}
        }
    }
    seen
}

/// The losses of workers that nothing else disturbed.
pub fn undisturbed<'a>(faults: &[&'a Line]) -> Vec<&'a Line> {
    /// A fault before it may have left the masters busy.
    const REST_US: u64 = 12 * SECOND_US;
    let alone = |loss: &Line| {
        let apart = |other: &Line| other.end_us + REST_US < loss.start_us || loss.end_us < other.start_us;
        faults.iter().filter(|f| !std::ptr::eq(**f, loss)).all(|f| apart(f))
    };
    faults.iter().copied().filter(|f| WORKER_LOSSES.contains(&f.kind.as_str()) && alone(f)).collect()
}

/// They, with the steady pods that were on the workers.
fn losses(faults: &[&Line], log: &[Object], windows: &Windows) -> Vec<Loss> {
    let lost = undisturbed(faults).into_iter().flat_map(|f| f.host.split(',').map(move |node| (f, node)));
    lost.filter(|(_, node)| !node.is_empty())
        .map(|(fault, node)| Loss {
            node: node.to_owned(),
            pods: pods_of(log, windows, node, fault.start_us),
            start_us: fault.start_us,
            end_us: fault.end_us,
        })
        .collect()
}

/// The steady pods that certainly were on the node at this moment.
fn pods_of(log: &[Object], windows: &Windows, node: &str, at_us: u64) -> Vec<String> {
    let mut there = BTreeSet::new();
    for change in log.iter().filter(|c| c.resource == "pods" && c.name.starts_with(&format!("{STEADY}/"))) {
        if windows.before_us(change.revision) > at_us {
            break;
        }
        let stays = change.object.as_ref().is_some_and(|o| {
            o["metadata"]["deletionTimestamp"].is_null() && text(&o["spec"]["nodeName"]) == node && is(o, "Ready")
        });
        if stays {
            there.insert(change.name.clone());
        } else {
            there.remove(&change.name);
        }
    }
    there.into_iter().collect()
}

/// The times without any master, unless a worker had trouble of its own.
fn times_away(faults: &[&Line], seen: &[Change]) -> Vec<Away> {
    const BEFORE_US: u64 = 3 * SECOND_US;
    let own_trouble = |away: &Line| {
        let of_workers = faults.iter().filter(|f| WORKER_FAULTS.contains(&f.kind.as_str()));
        of_workers.into_iter().any(|f| f.end_us + BEFORE_US > away.start_us && f.start_us < away.end_us)
    };
    let away = faults.iter().filter(|f| takes_all_masters(&f.kind) && !own_trouble(f));
    away.map(|fault| {
        let told = seen.iter().filter(|c| c.at.after_us <= fault.end_us).filter_map(|c| match &c.what {
            What::Evicted { pod } => Some(pod.rsplit('/').next().unwrap_or_default().to_owned()),
            _ => None,
        });
        Away { start_us: fault.start_us, end_us: fault.end_us, leaving: told.collect() }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(revision: i64, resource: &str, name: &str, object: Value) -> Object {
        Object { revision, resource: resource.into(), name: name.into(), object: Some(object) }
    }

    #[test]
    fn the_log_is_read_as_signs_of_life_and_evictions() {
        let node = |status: &str, beat: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status, "lastHeartbeatTime": beat}]}});
        let pod = json!({"metadata": {"deletionTimestamp": "now"}, "spec": {"nodeName": "w1"}});
        let log = [
            set(1, "nodes", "w1", node("True", "a")),
            set(2, "leases", "kube-node-lease/w1", json!({})),
            set(3, "nodes", "w1", node("Unknown", "a")),
            set(4, "pods", "steady/p", pod.clone()),
            set(5, "pods", "steady/p", pod),
            set(6, "nodes", "w1", node("True", "b")),
            set(7, "pods", "rollouts/q", json!({})),
        ];
        let seen: Vec<What> = node_changes(&log, &Windows::default()).into_iter().map(|c| c.what).collect();
        let evicted = What::Evicted { pod: "steady/p".into() };
        assert_eq!(seen, [What::Alive, What::Alive, What::Silent, evicted, What::Alive, What::Back]);
    }
}
