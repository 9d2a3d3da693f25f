//! What runs in containers, as the host sees it: each process carries its pod's name in its environment, and the
//! supervisors of the `process` runtime the worker's folder on their command lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};

/// The environment variables that the manifests set.
pub const POD_VARIABLE: &str = "KEELSTONE_CHAOS_POD";
pub const RUN_VARIABLE: &str = "KEELSTONE_CHAOS_RUN";

const GONE_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// State, parent and start time of a process.
fn stat(pid: i32) -> Option<(String, i32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.first()?.to_string(), fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

/// The processes of a namespace's pods, by pod: each `pid:start time`, so that a recycled pid is another process.
/// Only those that a container began with: what they start themselves comes and goes.
pub fn of_pods(namespace: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let run = format!("{RUN_VARIABLE}={namespace}");
    for pid in pids() {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|b| *b == 0).map(String::from_utf8_lossy);
        if !variables.clone().any(|v| *v == *run) {
            continue;
        }
        let pod = variables.find_map(|v| Some(v.strip_prefix(POD_VARIABLE)?.strip_prefix('=')?.to_owned()));
        let Some((state, _, start)) = stat(pid) else { continue };
        if let Some(pod) = pod.filter(|_| state != "Z" && first_of_its_namespace(pid)) {
            found.entry(pod).or_default().insert(format!("{pid}:{start}"));
        }
    }
    found
}

/// Whether the process has number 1 in its own PID namespace.
fn first_of_its_namespace(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|l| l.strip_prefix("NSpid:"));
    numbers.and_then(|n| n.split_whitespace().last()) == Some("1")
}

/// Kills all containers of the worker whose `process` runtime keeps its records in `root`: what runs in them first, then
/// their supervisors, which note the ends.
pub fn kill_containers(root: &Path) {
    let mark = format!("container-shim\0{}", root.display());
    let ours = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&mark)
    };
    let all: Vec<(i32, i32)> = pids().filter_map(|p| Some((p, stat(p)?.1))).collect();
    let shims: Vec<i32> = pids().filter(ours).collect();
    let mut inside: Vec<i32> = shims.clone();
    let mut at = 0;
    while let Some(next) = inside.get(at).copied() {
        inside.extend(all.iter().filter(|(_, parent)| *parent == next).map(|(pid, _)| *pid));
        at += 1;
    }
    for pid in inside.iter().skip(shims.len()).chain(&shims) {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    let begun = Instant::now();
    let runs = |pid: &i32| stat(*pid).is_some_and(|(state, ..)| state != "Z");
    while begun.elapsed() < GONE_MAX && inside.iter().any(runs) {
        std::thread::sleep(POLL);
    }
}
