//! What the loss of a master, and of a worker, costs step by step, out of a history: from the start of the fault until
//! something was seen.

use keelstone_chaos_store::{
    record::{Class, NEMESIS},
    Line,
};
use keelstone_checkers::{
    node_times::What,
    objects::{changes, text, Change},
    Event,
};

use crate::{
    nemeses::WORKER_LOSSES,
    windows::Windows,
    workloads::{node_changes, STEADY},
};

/// A step of one fault, in microseconds from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub fault: String,
    pub step: &'static str,
    pub took_us: u64,
}

const MASTER_LOSSES: [&str; 4] = ["kill", "pause", "power-loss", "partition-isolate"];
/// A step that takes longer belongs to something else.
const STEP_US_MAX: u64 = 600_000_000;

/// Every step of every loss, in the order of the faults.
pub fn steps(lines: &[Line]) -> Vec<Step> {
    let log = lines.iter().find(|l| l.source == "store" && l.kind == "log");
    let log: Vec<Event> = log.and_then(|l| l.read().ok()).unwrap_or_default();
    let log = changes(&log);
    let all: Vec<&Line> = lines.iter().collect();
    let windows = Windows::of(&all);
    let mut found = Vec::new();
    for fault in lines.iter().filter(|l| l.source == NEMESIS) {
        if MASTER_LOSSES.contains(&fault.kind.as_str()) {
            of_master(fault, lines, &log, &windows, &mut found);
        } else if WORKER_LOSSES.contains(&fault.kind.as_str()) {
            of_worker(fault, &log, &windows, &mut found);
        }
    }
    found
}

fn add(found: &mut Vec<Step>, fault: &Line, step: &'static str, at_us: Option<u64>) {
    let took_us = at_us.map(|at| at.saturating_sub(fault.start_us)).filter(|took| *took < STEP_US_MAX);
    found.extend(took_us.map(|took_us| Step { fault: fault.kind.clone(), step, took_us }));
}

fn of_master(fault: &Line, lines: &[Line], log: &[Change], windows: &Windows, found: &mut Vec<Step>) {
    let calls = || lines.iter().filter(|l| l.source == "objects" && l.end_us > fault.start_us);
    let ends = |wanted: &dyn Fn(&Line) -> bool| calls().filter(|l| wanted(l)).map(|l| l.end_us).min();
    let bad = |l: &Line| matches!(l.class, Class::Failed | Class::Unknown) && l.host == fault.host;
    add(found, fault, "first call refused or unanswered", ends(&bad));
    let term = |l: &Line| l.what["term"].as_u64().unwrap_or(0);
    let samples = || lines.iter().filter(|l| l.source == "nodes" && l.kind == "status" && l.class == Class::Ok);
    let before = samples().filter(|l| l.end_us < fault.start_us).map(term).max().unwrap_or(0);
    let elected = samples().filter(|l| l.start_us > fault.start_us && l.what["leads"] == true && term(l) > before);
    let elected = elected.map(|l| l.end_us).min().filter(|at| *at < fault.end_us + 5_000_000);
    add(found, fault, "a new leader of the store", elected);
    add(
        found,
        fault,
        "first write acknowledged",
        ends(&|l| l.writes && l.class == Class::Ok && l.start_us > fault.start_us),
    );
    let after = || log.iter().filter(|c| windows.after_us(c.revision) >= fault.start_us);
    let seen = |c: Option<&Change>| c.map(|c| windows.before_us(c.revision)).filter(|at| *at != u64::MAX);
    let mut bound: std::collections::BTreeSet<&str> = log
        .iter()
        .take_while(|c| windows.after_us(c.revision) < fault.start_us)
        .filter(|c| c.resource == "pods" && is_bound(c))
        .map(|c| c.name.as_str())
        .collect();
    let binding = after().find(|c| c.resource == "pods" && is_bound(c) && bound.insert(&c.name));
    add(found, fault, "the scheduler binds its next pod", seen(binding));
    let acted = after().find(|c| ["replicasets", "deployments"].contains(&c.resource.as_str()) && by_controllers(c));
    add(found, fault, "the controllers' next write", seen(acted));
}

fn is_bound(change: &Change) -> bool {
    change.object.as_ref().is_some_and(|o| !text(&o["spec"]["nodeName"]).is_empty())
}

/// Users write the Deployment's spec, whose generation the controller has then not observed yet.
fn by_controllers(change: &Change) -> bool {
    let observed = |o: &serde_json::Value| o["status"]["observedGeneration"] == o["metadata"]["generation"];
    change.resource == "replicasets" || change.object.as_ref().is_some_and(observed)
}

fn of_worker(fault: &Line, log: &[Change], windows: &Windows, found: &mut Vec<Step>) {
    let node = fault.host.as_str();
    let seen = node_changes(log, windows);
    let own = || seen.iter().filter(|c| c.node == node && c.at.after_us >= fault.start_us);
    let at = |wanted: &dyn Fn(&What) -> bool| own().find(|c| wanted(&c.what)).map(|c| c.at.before_us);
    add(found, fault, "its node is NotReady", at(&|w| *w == What::Silent));
    add(found, fault, "its first pod is evicted", at(&|w| matches!(w, What::Evicted { .. })));
    let runs_elsewhere = |c: &&Change| {
        let ready = |o: &serde_json::Value| crate::api::is(o, "Ready") && text(&o["spec"]["nodeName"]) != node;
        c.name.starts_with(STEADY) && c.resource == "pods" && c.object.as_ref().is_some_and(ready)
    };
    let evicted_us = own().find(|c| matches!(c.what, What::Evicted { .. })).map(|c| c.at.after_us);
    let mut known: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
    let mut elsewhere = None;
    for change in log.iter().filter(|c| runs_elsewhere(c)) {
        let new = known.insert(&change.name);
        let after = evicted_us.is_some_and(|e| windows.after_us(change.revision) >= e);
        if new && after && elsewhere.is_none() {
            elsewhere = Some(windows.before_us(change.revision));
        }
    }
    add(found, fault, "its replacement runs elsewhere", elsewhere);
    // From the moment at which it was started again.
    let back = at(&|w| *w == What::Back).map(|at| at.saturating_sub(fault.end_us) + fault.start_us);
    add(found, fault, "started again: its node is Ready", back);
}
