//! Defects planted into the history of a run of whole masters: each as a broken cluster would have made it.
#![allow(clippy::ptr_arg)] // some add a line, and all have one type

use keelstone_chaos_store::{
    planted::{of, Plant},
    record::NEMESIS,
    Class, Line,
};
use serde_json::{json, Value};

use crate::nemeses::takes_all_masters;

pub const PLANTS: &[Plant] = &[
    Plant { name: "stale-object", check: "objects", place: stale_object },
    Plant { name: "lost-update", check: "objects", place: lost_update },
    Plant { name: "conflict-overlooked", check: "objects", place: conflict_overlooked },
    Plant { name: "cached-read-of-nothing", check: "objects", place: wrong_cached_read },
    Plant { name: "skipped-watch-event", check: "mirrors", place: skipped_event },
    Plant { name: "repeated-watch-event", check: "mirrors", place: repeated_event },
    Plant { name: "incomplete-list", check: "mirrors", place: incomplete_list },
    Plant { name: "copy-left-behind", check: "mirrors", place: left_behind },
    Plant { name: "one-pod-too-many", check: "rollouts", place: pod_too_many },
    Plant { name: "overcommitted-node", check: "rollouts", place: overcommitted },
    Plant { name: "left-over-process", check: "rollouts", place: left_over },
    Plant { name: "two-of-an-identity", check: "identities", place: two_of_an_identity },
    Plant { name: "two-leaders", check: "election", place: two_leaders },
    Plant { name: "early-not-ready", check: "nodes", place: early_not_ready },
    Plant { name: "groundless-eviction", check: "nodes", place: groundless_eviction },
    Plant { name: "late-not-ready", check: "nodes", place: late_not_ready },
    Plant { name: "touched-pod", check: "nodes", place: touched_pod },
];

/// The last consistent read of an object that was written twice shows the first value.
fn stale_object(lines: &mut Vec<Line>) -> bool {
    let told = |l: &Line| l.what["outcome"]["read"]["mod_revision"].as_i64().filter(|r| *r > 0);
    let reads: Vec<Line> = of(lines, "objects", "read").filter(|l| told(l).is_some()).map(|l| l.clone()).collect();
    for first in &reads {
        let same = |l: &&Line| l.what["call"] == first.what["call"] && l.start_us > first.end_us;
        let Some(changed) = reads.iter().filter(same).find(|l| told(l) > told(first)) else { continue };
        let place =
            of(lines, "objects", "read").find(|l| l.start_us > changed.end_us && l.what["call"] == first.what["call"]);
        if let Some(later) = place.filter(|l| told(l).is_some()) {
            let own = later.what["outcome"]["read"]["revision"].clone();
            later.what["outcome"] = first.what["outcome"].clone();
            later.what["outcome"]["read"]["revision"] = own;
            return true;
        }
    }
    false
}

fn logs(lines: &mut [Line]) -> impl Iterator<Item = &mut Vec<Value>> {
    of(lines, "store", "log").filter_map(|l| l.what.as_array_mut())
}

fn lost_update(lines: &mut Vec<Line>) -> bool {
    let updated = of(lines, "objects", "update").find(|l| !l.what["outcome"]["written"].is_null());
    let Some(revision) = updated.map(|l| l.what["outcome"]["written"]["revision"].clone()) else { return false };
    let mut found = false;
    for events in logs(lines) {
        let before = events.len();
        events.retain(|e| e["revision"] != revision);
        found |= events.len() < before;
    }
    found
}

/// An update of an older version was answered as carried out.
fn conflict_overlooked(lines: &mut Vec<Line>) -> bool {
    let update = of(lines, "objects", "update")
        .filter(|l| !l.what["outcome"]["written"].is_null())
        .find(|l| l.what["call"]["compare_and_set"]["expected"].as_i64().is_some_and(|e| e > 1));
    let expected = update.map(|l| &mut l.what["call"]["compare_and_set"]["expected"]);
    expected.map(|e| *e = json!(e.as_i64().unwrap_or(0) - 1)).is_some()
}

fn wrong_cached_read(lines: &mut Vec<Line>) -> bool {
    let mut reads = of(lines, "objects", "cached");
    let read = reads.find(|l| !l.what["outcome"]["read"]["value"].is_null());
    read.map(|l| l.what["outcome"]["read"]["value"] = json!("nobody's")).is_some()
}

fn copy(lines: &mut [Line]) -> Option<&mut Vec<Value>> {
    let copies = of(lines, "mirrors", "copy").filter_map(|l| l.what["events"].as_array_mut());
    copies.into_iter().find(|events| events.iter().filter(|e| e["kind"] != "BOOKMARK").count() > 4)
}

fn changed(events: &[Value]) -> usize {
    events.iter().position(|e| e["kind"] != "BOOKMARK").unwrap_or(0)
}

fn skipped_event(lines: &mut Vec<Line>) -> bool {
    copy(lines).map(|events| drop(events.remove(changed(events)))).is_some()
}

fn repeated_event(lines: &mut Vec<Line>) -> bool {
    copy(lines).map(|events| events.insert(changed(events), events[changed(events)].clone())).is_some()
}

fn incomplete_list(lines: &mut Vec<Line>) -> bool {
    let mut lists = of(lines, "mirrors", "copy").filter_map(|l| l.what["list"].as_object_mut());
    let list = lists.find(|list| list.len() > 1);
    list.and_then(|list| list.keys().next().cloned().and_then(|key| list.remove(&key))).is_some()
}

fn left_behind(lines: &mut Vec<Line>) -> bool {
    let reached = of(lines, "mirrors", "reached").last().and_then(|l| l.what.as_array_mut());
    reached.map(|both| both[0] = json!(1)).is_some()
}

/// Adds changes to every member's log, after the one that `after` finds.
fn add(lines: &mut [Line], after: impl Fn(&Value) -> bool, make: impl Fn(&Value, i64) -> Vec<Value>) -> bool {
    let mut added = false;
    for events in logs(lines) {
        let Some(at) = events.iter().position(&after) else { continue };
        let new = make(&events[at], events[at]["revision"].as_i64().unwrap_or(0));
        events.splice(at + 1..at + 1, new);
        added = true;
    }
    added
}

fn creates_pod(event: &Value, namespace: &str) -> bool {
    let key = event["key"].as_str().unwrap_or_default();
    key.starts_with(&format!("/registry/core/pods/{namespace}/")) && !event["value"].is_null()
}

/// The same pod again and again under other names.
fn pod_too_many(lines: &mut Vec<Line>) -> bool {
    let copies = |event: &Value, revision: i64| {
        let copy = |i: u32| {
            let key = format!("{}-{i}", event["key"].as_str().unwrap_or_default());
            json!({"revision": revision, "key": key, "value": event["value"]})
        };
        (0..12).map(copy).collect()
    };
    add(lines, |e| creates_pod(e, "rollouts"), copies)
}

/// A pod that is bound asks for more than any node has.
fn overcommitted(lines: &mut Vec<Line>) -> bool {
    let bound =
        |e: &Value| creates_pod(e, "steady") && e["value"].as_str().unwrap_or_default().contains("\"nodeName\"");
    let mut found = false;
    for events in logs(lines) {
        for event in events.iter_mut().filter(|e| bound(e)) {
            let text = event["value"].as_str().unwrap_or_default().replace("\"cpu\":\"10m\"", "\"cpu\":\"900\"");
            event["value"] = json!(text);
            found = true;
        }
    }
    found
}

fn left_over(lines: &mut Vec<Line>) -> bool {
    let running = of(lines, "rollouts", "end").last().and_then(|l| l.what["running"].as_array_mut());
    running.map(|pods| pods.push(json!("left-over"))).is_some()
}

fn two_of_an_identity(lines: &mut Vec<Line>) -> bool {
    let Some(mut second) = of(lines, "identities", "ran").last().map(|l| l.clone()) else { return false };
    second.what["run"] = json!("another pod");
    lines.push(second);
    true
}

fn two_leaders(lines: &mut Vec<Line>) -> bool {
    let acts = |l: &&mut Line| l.class == Class::Ok && l.what["start_us"].as_u64() < l.what["end_us"].as_u64();
    let Some(mut second) = of(lines, "election", "renew").find(acts).map(|l| l.clone()) else { return false };
    second.what["holder"] = json!("usurper");
    lines.push(second);
    true
}

/// A change of a node that lives, to NotReady.
fn node_silent(event: &Value) -> Value {
    let text = event["value"].as_str().unwrap_or_default();
    let start = text.find('{').unwrap_or(0);
    let (envelope, object) = text.split_at(start);
    let mut object: Value = serde_json::from_str(object).unwrap_or_default();
    for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if condition["type"] == "Ready" {
            condition["status"] = json!("Unknown");
        }
    }
    json!(format!("{envelope}{object}"))
}

/// A node is called NotReady at once after it has renewed its lease.
fn early_not_ready(lines: &mut Vec<Line>) -> bool {
    const LEASES: &str = "/registry/coordination.k8s.io/leases/kube-node-lease/";
    let mut found = false;
    for events in logs(lines) {
        // Not at the ends, where no client's call tells when it was.
        let middle = &events[..events.len() * 2 / 3];
        let key = |i: usize| middle[i]["key"].as_str().unwrap_or_default();
        let Some(at) = (0..middle.len()).rev().find(|i| key(*i).starts_with(LEASES)) else { continue };
        let node = format!("/registry/core/nodes/{}", key(at).trim_start_matches(LEASES));
        let Some(last) = (0..at).rev().find(|i| key(*i) == node) else { continue };
        let silent = json!({"revision": events[at]["revision"], "key": node, "value": node_silent(&events[last])});
        events.insert(at + 1, silent);
        found = true;
    }
    found
}

fn groundless_eviction(lines: &mut Vec<Line>) -> bool {
    let bound =
        |e: &Value| creates_pod(e, "steady") && e["value"].as_str().unwrap_or_default().contains("\"nodeName\"");
    add(lines, bound, |event, revision| {
        let text = event["value"].as_str().unwrap_or_default();
        let text = text.replacen("\"metadata\":{", "\"metadata\":{\"deletionTimestamp\":\"2026-01-01T00:00:00Z\",", 1);
        vec![json!({"revision": revision, "key": event["key"], "value": text})]
    })
}

/// The control plane never noticed the loss of a worker.
fn late_not_ready(lines: &mut Vec<Line>) -> bool {
    let faults: Vec<&Line> = lines.iter().filter(|l| l.source == NEMESIS).collect();
    let Some(node) = crate::workloads::undisturbed(&faults).first().map(|l| format!("/registry/core/nodes/{}", l.host))
    else {
        return false;
    };
    let mut found = false;
    for events in logs(lines) {
        let before = events.len();
        let silent = |e: &Value| e["value"].as_str().is_some_and(|v| v.contains("\"Unknown\""));
        events.retain(|e| e["key"] != node.as_str() || !silent(e));
        events.retain(|e| !e["key"].as_str().unwrap_or_default().starts_with("/registry/core/pods/steady/"));
        found |= events.len() < before;
    }
    found
}

/// While all masters were away a process ended.
fn touched_pod(lines: &mut Vec<Line>) -> bool {
    let away: Vec<(u64, u64)> = lines
        .iter()
        .filter(|l| l.source == NEMESIS && takes_all_masters(&l.kind))
        .map(|l| (l.start_us, l.end_us))
        .collect();
    let mut found = false;
    for line in of(lines, "nodes", "processes") {
        let at_us = line.what["at_us"].as_u64().unwrap_or(0);
        if away.iter().any(|(start, end)| at_us >= *start && at_us <= *end) {
            line.what["pods"] = json!({});
            found = true;
        }
    }
    found
}
