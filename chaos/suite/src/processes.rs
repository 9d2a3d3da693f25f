//! Containers as the host sees them: their processes carry the pod's name and the run in their environment.

use std::{collections::BTreeSet, fs};

/// The environment variables that the story's manifests set.
pub const POD_VARIABLE: &str = "KEELSTONE_STORY_POD";
pub const RUN_VARIABLE: &str = "KEELSTONE_STORY_RUN";

/// The processes of one pod's containers, by pid and start time, so that a recycled pid is another process.
pub fn of_pod(run: &str, pod: &str) -> BTreeSet<(i32, u64)> {
    let (run, pod) = (format!("{RUN_VARIABLE}={run}"), format!("{POD_VARIABLE}={pod}"));
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|b| *b == 0);
        variables.clone().any(|v| v == run.as_bytes()) && variables.any(|v| v == pod.as_bytes())
    })
    .filter_map(|pid| Some((pid, start_ticks(pid)?)))
    .collect()
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19)?.parse().ok()
}
