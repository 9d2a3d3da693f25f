//! Planted defects: a good history is changed as a broken store would have made it, and the check that is meant for it
//! must reject it. A check that finds nothing planted is worth nothing.
#![allow(clippy::ptr_arg)] // some add a line, and all have one type

use std::sync::Arc;

use keelstone_chaos_bed::{Failure, Outcome};
use serde_json::{json, Value};

use crate::{
    record::{Class, Line},
    verdict::judge,
    workloads::Workload,
};

/// One defect.
pub struct Plant {
    pub name: &'static str,
    /// The check that must find it.
    pub check: &'static str,
    /// False: the history has no place for it.
    pub place: fn(&mut Vec<Line>) -> bool,
}

/// Those of the store's workloads.
pub const PLANTS: &[Plant] = &[
    Plant { name: "stale-read", check: "register", place: stale_read },
    Plant { name: "lost-write", check: "register", place: lost_write },
    Plant { name: "lost-append", check: "append", place: lost_append },
    Plant { name: "aborted-append-read", check: "append", place: aborted_append },
    Plant { name: "lost-element", check: "set", place: lost_element },
    Plant { name: "wrong-sum", check: "bank", place: wrong_sum },
    Plant { name: "two-holders", check: "lock", place: two_holders },
    Plant { name: "write-past-the-fence", check: "lock", place: past_the_fence },
    Plant { name: "early-lease-end", check: "lease", place: early_end },
    Plant { name: "skipped-event", check: "watch", place: skipped_event },
    Plant { name: "repeated-event", check: "watch", place: repeated_event },
    Plant { name: "diverged-log", check: "equal logs of all members (4)", place: diverged_log },
    Plant { name: "diverged-state", check: "equal states of all members (4)", place: diverged_state },
];

/// Plants each defect into a copy of `lines` and judges it; a line for each.
///
/// # Errors
/// [`Failure::Broken`]: a defect was not found. [`Failure::Impossible`]: the history has no place for any of a check.
pub fn run(lines: &[Line], workloads: &[Arc<dyn Workload>], plants: &[&Plant]) -> Outcome<Vec<String>> {
    let mut told = Vec::new();
    let mut tried = std::collections::BTreeSet::new();
    for plant in plants {
        let mut damaged = lines.to_vec();
        if !(plant.place)(&mut damaged) {
            told.push(format!("{:22} has no place in this history", plant.name));
            continue;
        }
        let verdict = judge(&damaged, workloads);
        let caught = verdict.checks.iter().find(|c| c.name == plant.check).and_then(|c| c.violation.as_ref());
        let Some(story) = caught else {
            return Err(Failure::broken(format!("{} was planted and {} did not find it", plant.name, plant.check)));
        };
        let story: String = story.lines().next().unwrap_or_default().chars().take(110).collect();
        told.push(format!("{:22} found by {}: {story}", plant.name, plant.check));
        tried.insert(plant.check);
    }
    if let Some(plant) = plants.iter().find(|p| !tried.contains(p.check)) {
        return Err(Failure::impossible(format!("nothing could be planted for {} in this history", plant.check)));
    }
    Ok(told)
}

pub fn of<'a>(lines: &'a mut [Line], source: &'a str, kind: &'a str) -> impl Iterator<Item = &'a mut Line> {
    lines.iter_mut().filter(move |l| l.source == source && l.kind == kind && l.class != Class::Failed)
}

/// The last read of a key that was written twice shows the first value.
fn stale_read(lines: &mut Vec<Line>) -> bool {
    let writes: Vec<Line> =
        of(lines, "register", "write").filter(|l| l.class == Class::Ok).map(|l| l.clone()).collect();
    for (i, first) in writes.iter().enumerate() {
        let key = &first.what["call"]["write"]["key"];
        let same = |l: &&Line| l.what["call"]["write"]["key"] == *key && l.start_us > first.end_us;
        let Some(second) = writes[i + 1..].iter().find(same) else { continue };
        let after = second.end_us;
        let read = of(lines, "register", "read")
            .find(|l| l.start_us > after && l.what["call"]["read"]["key"] == *key && l.class == Class::Ok);
        if let Some(read) = read {
            let told = &mut read.what["outcome"]["read"];
            told["value"] = first.what["call"]["write"]["value"].clone();
            told["mod_revision"] = first.what["outcome"]["written"]["revision"].clone();
            return true;
        }
    }
    false
}

/// An acknowledged write is in no member's log.
fn lost_write(lines: &mut Vec<Line>) -> bool {
    let written = of(lines, "register", "write").find(|l| l.class == Class::Ok).map(|l| l.what.clone());
    let Some(revision) = written.map(|w| w["outcome"]["written"]["revision"].clone()) else { return false };
    let mut found = false;
    for log in of(lines, "store", "log") {
        let Some(events) = log.what.as_array_mut() else { continue };
        let before = events.len();
        events.retain(|e| e["revision"] != revision);
        found |= events.len() < before;
    }
    found
}

fn lists(line: &mut Line) -> Vec<&mut Vec<Value>> {
    let steps = line.what["steps"].as_array_mut().into_iter().flatten();
    steps.filter_map(|s| s.get_mut("read")?.get_mut("list")?.as_array_mut()).collect()
}

/// An element that was read is missing in the middle of a later, longer list.
fn lost_append(lines: &mut Vec<Line>) -> bool {
    for line in of(lines, "append", "txn").filter(|l| l.class == Class::Ok) {
        if let Some(list) = lists(line).into_iter().find(|l| l.len() > 3) {
            list.remove(1);
            return true;
        }
    }
    false
}

/// The writer of an element that was read had been told that it failed.
fn aborted_append(lines: &mut Vec<Line>) -> bool {
    let mut elements = Vec::new();
    for line in of(lines, "append", "txn").filter(|l| l.class == Class::Ok) {
        elements.extend(lists(line).into_iter().flatten().map(|e| e.clone()));
    }
    for line in of(lines, "append", "txn").filter(|l| l.class == Class::Ok) {
        let steps = line.what["steps"].as_array().cloned().unwrap_or_default();
        let read_elsewhere = steps.iter().any(|s| elements.contains(&s["append"]["element"]));
        if read_elsewhere && steps.iter().all(|s| s.get("read").is_none()) {
            line.what["ending"] = json!("failed");
            line.class = Class::Failed;
            return true;
        }
    }
    false
}

fn lost_element(lines: &mut Vec<Line>) -> bool {
    let reads = of(lines, "set", "read").filter(|l| l.class == Class::Ok);
    let Some(last) = reads.last() else { return false };
    match last.what["operation"]["call"]["read"]["elements"].as_array_mut() {
        Some(elements) if !elements.is_empty() => {
            elements.remove(0);
            true
        }
        _ => false,
    }
}

fn wrong_sum(lines: &mut Vec<Line>) -> bool {
    let Some(last) = of(lines, "bank", "read").filter(|l| l.class == Class::Ok).last() else { return false };
    let Some(balances) = last.what["call"]["read"]["balances"].as_object_mut() else { return false };
    match balances.values_mut().next() {
        Some(balance) => {
            *balance = json!(balance.as_i64().unwrap_or(0) + 1);
            true
        }
        None => false,
    }
}

/// A holder is told that it holds the lock while the holder before it still does.
fn two_holders(lines: &mut Vec<Line>) -> bool {
    let mut tenures: Vec<&mut Line> = of(lines, "lock", "tenure").collect();
    tenures.sort_by_key(|l| (l.what["lock"].to_string(), l.what["token"].as_i64()));
    for i in 1..tenures.len() {
        let before = tenures[i - 1].what.clone();
        let own = &mut tenures[i].what;
        if before["lock"] == own["lock"] && before["client"] != own["client"] {
            own["from_us"] = json!(before["until_us"].as_u64().unwrap_or(1) - 1);
            return true;
        }
    }
    false
}

fn past_the_fence(lines: &mut Vec<Line>) -> bool {
    let last = of(lines, "lock", "tenure").filter_map(|l| l.what["token"].as_i64()).max().unwrap_or(0);
    let tenures = of(lines, "lock", "tenure");
    let lock = tenures.filter(|l| l.what["token"] == last).map(|l| l.what["lock"].clone()).last();
    let earlier =
        of(lines, "lock", "tenure").find(|l| Some(&l.what["lock"]) == lock.as_ref() && l.what["token"] != last);
    match earlier.and_then(|l| l.what["writes"].as_array_mut()) {
        Some(writes) => {
            writes.push(json!(last + 1));
            true
        }
        None => false,
    }
}

/// A key on a living lease is not there.
fn early_end(lines: &mut Vec<Line>) -> bool {
    for line in of(lines, "lease", "session") {
        let steps = line.what["steps"].as_array_mut().into_iter().flatten();
        let mut put = false;
        for step in steps {
            put |= step == "put";
            if put && step["read"]["present"] == true {
                step["read"]["present"] = json!(false);
                return true;
            }
        }
    }
    false
}

fn answers(lines: &mut [Line]) -> Option<&mut Vec<Value>> {
    let seen = of(lines, "watch", "seen").filter_map(|l| l.what["answers"].as_array_mut());
    seen.into_iter().find(|answers| answers.len() > 4)
}

fn skipped_event(lines: &mut Vec<Line>) -> bool {
    answers(lines).map(|answers| drop(answers.remove(2))).is_some()
}

fn repeated_event(lines: &mut Vec<Line>) -> bool {
    answers(lines).map(|answers| answers.insert(2, answers[2].clone())).is_some()
}

fn diverged_log(lines: &mut Vec<Line>) -> bool {
    let log = of(lines, "store", "log").last().and_then(|l| l.what.as_array_mut());
    log.and_then(|events| events.last_mut()).map(|event| event["value"] = json!("another")).is_some()
}

fn diverged_state(lines: &mut Vec<Line>) -> bool {
    let hash = of(lines, "store", "hash").last();
    hash.map(|l| l.what["hash"] = json!(l.what["hash"].as_u64().unwrap_or(0) ^ 1)).is_some()
}
