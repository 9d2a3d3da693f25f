//! Ends what runs in a worker's containers, and takes away what a stopped worker left on the machine.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use keelstone_env::Env;
use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};

use super::{bridge, Containerd};
use crate::runtime::{
    cri::{CriOptions, CriRuntime},
    Runtime, RuntimeError,
};

const CGROUPS: &str = "/sys/fs/cgroup";
const GONE_WAIT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

/// Ends everything that runs in a worker's containers: in good order if its containerd answers (networks
/// are given back), and then, or else, the processes of its containers and their supervisors.
pub fn end_containers(cluster_dir: &Path, runtime: &str, worker: &str, pod_cidr: &str) {
    let mark = match runtime {
        "cri" => {
            let containerd = Containerd::new(cluster_dir, worker, pod_cidr);
            stop_sandboxes(&containerd, worker);
            containerd.socket().display().to_string()
        }
        // The supervisors of the `process` runtime have the worker's folder on their command line.
        "process" => format!("container-shim\0{}", cluster_dir.join(worker).join("process").display()),
        _ => return,
    };
    let shims = processes_with(&mark);
    let inside: Vec<i32> = shims.iter().flat_map(|shim| descendants(*shim)).collect();
    // The supervisors last: they note how their containers ended.
    for pid in &inside {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    for _ in 0..GONE_WAIT.as_millis() / POLL.as_millis() {
        if !inside.iter().any(|pid| runs(*pid)) {
            break;
        }
        std::thread::sleep(POLL);
    }
    for shim in processes_with(&mark) {
        let _ = kill(Pid::from_raw(shim), Signal::SIGKILL);
    }
}

/// Asks the worker's containerd, if it is there, to stop all sandboxes.
fn stop_sandboxes(containerd: &Containerd, worker: &str) {
    let Ok(threads) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let options =
        CriOptions { socket: containerd.socket(), node: worker.to_owned(), cgroup_parent: containerd.cgroup_parent() };
    let stopped = threads.block_on(async {
        let runtime = CriRuntime::new(Env::os(), options);
        for sandbox in runtime.observe().await? {
            runtime.stop_sandbox(&sandbox.id).await?;
        }
        Ok::<(), RuntimeError>(())
    });
    if let Err(error) = stopped {
        tracing::debug!(%error, worker, "its sandboxes cannot be stopped in good order");
    }
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_string_lossy().parse().ok()).collect()
}

/// The command line as the kernel has it: words that end with a zero byte.
fn command_line(pid: i32) -> Option<String> {
    fs::read(format!("/proc/{pid}/cmdline")).ok().map(|c| String::from_utf8_lossy(&c).into_owned())
}

/// Supervisors of containers whose command line has `mark`.
fn processes_with(mark: &str) -> Vec<i32> {
    let ours = |pid: &i32| command_line(*pid).is_some_and(|c| c.contains("shim") && c.contains(mark));
    pids().into_iter().filter(ours).collect()
}

/// State and parent of a process.
fn stat(pid: i32) -> Option<(String, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn runs(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

fn descendants(of: i32) -> Vec<i32> {
    let all: Vec<(i32, i32)> = pids().into_iter().filter_map(|p| Some((p, stat(p)?.1))).collect();
    let mut found = vec![of];
    let mut at = 0;
    while let Some(&next) = found.get(at) {
        found.extend(all.iter().filter(|(_, p)| *p == next).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}

/// Takes away what a stopped worker left outside the cluster's folder: mounts, network namespaces, the
/// bridge, rules of the packet filter, cgroups.
pub fn clean(cluster_dir: &Path, worker: &str) {
    let containerd = Containerd::new(cluster_dir, worker, "");
    let run = containerd.run_dir();
    for mounted in mounts_below(&run) {
        quiet(Command::new("umount").arg("-l").arg(mounted));
    }
    for namespace in process_namespaces(&cluster_dir.join(worker).join("process")) {
        quiet(Command::new("ip").args(["netns", "del", &namespace]));
    }
    quiet(Command::new("ip").args(["link", "del", &bridge(cluster_dir, worker)]));
    if let Some(changes) = filter_changes(&filter_rules(), &containerd.network()) {
        change_filter(&changes);
    }
    let cgroup = containerd.cgroup_parent();
    let inside = Path::new(cgroup.trim_start_matches('/'));
    let controllers = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|e| e.path());
    for hierarchy in std::iter::once(PathBuf::from(CGROUPS)).chain(controllers) {
        remove_cgroups(&hierarchy.join(inside));
        // The cluster's own, once its last worker is gone.
        let _ = inside.parent().map(|cluster| fs::remove_dir(hierarchy.join(cluster)));
    }
    let _ = fs::remove_dir_all(run);
}

/// The network namespaces of the sandboxes of the `process` runtime, from its records.
fn process_namespaces(root: &Path) -> Vec<String> {
    let sandboxes = fs::read_dir(root).into_iter().flatten().flatten();
    let records = sandboxes.filter_map(|e| fs::read(e.path().join("sandbox.json")).ok());
    let records = records.filter_map(|r| serde_json::from_slice::<serde_json::Value>(&r).ok());
    let names = records.filter_map(|r| Some(r["network_namespace"].as_str()?.to_owned()));
    names.filter(|n| !n.is_empty()).collect()
}

fn quiet(command: &mut Command) {
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Removes a cgroup after its children; those that still hold processes stay.
fn remove_cgroups(dir: &Path) {
    let children = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    for child in children.filter(|p| p.is_dir()) {
        remove_cgroups(&child);
    }
    let _ = fs::remove_dir(dir);
}

/// Mount points below a folder, the deepest first.
fn mounts_below(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = text.lines().filter_map(|l| Some(l.split(' ').nth(1)?.to_owned()));
    let mut found: Vec<String> = points.filter(|m| Path::new(m).starts_with(dir)).collect();
    found.sort_by_key(|m| std::cmp::Reverse(m.len()));
    found
}

fn filter_rules() -> String {
    let output = Command::new("iptables-save").args(["-t", "nat"]).stderr(Stdio::null()).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
}

/// What `iptables-restore --noflush` takes to remove the rules and chains of a CNI network's pods; the
/// plugins name the network in each rule's comment. `None` if there is nothing to remove.
fn filter_changes(rules: &str, network: &str) -> Option<String> {
    let mark = format!("name: \\\"{network}\\\" ");
    let (mut deletions, mut chains) = (String::new(), Vec::new());
    for rule in rules.lines().filter(|l| l.starts_with("-A ") && l.contains(&mark)) {
        deletions.push_str(&format!("-D {}\n", &rule[3..]));
        // `CNI-HOSTPORT-...` chains are shared by all networks.
        let own = |word: &&str| word.starts_with("CNI-") && !word.starts_with("CNI-HOSTPORT-");
        for chain in rule.split_whitespace().filter(own) {
            if !chains.contains(&chain) {
                chains.push(chain);
            }
        }
    }
    let flush: String = chains.iter().map(|c| format!("-F {c}\n")).collect();
    let remove: String = chains.iter().map(|c| format!("-X {c}\n")).collect();
    (!deletions.is_empty()).then(|| format!("*nat\n{deletions}{flush}{remove}COMMIT\n"))
}

fn change_filter(changes: &str) {
    let restore = Command::new("iptables-restore")
        .arg("--noflush")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Ok(mut restore) = restore {
        let _ = restore.stdin.take().map(|mut input| input.write_all(changes.as_bytes()));
        let _ = restore.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rules_of_one_network_are_removed() {
        let rules = r#"*nat
:POSTROUTING ACCEPT [0:0]
:CNI-aa - [0:0]
-A POSTROUTING -s 10.88.1.2/32 -m comment --comment "name: \"keelstone-1-w1\" id: \"x\"" -j CNI-aa
-A POSTROUTING -s 10.88.2.2/32 -m comment --comment "name: \"keelstone-1-w10\" id: \"y\"" -j CNI-bb
-A CNI-aa -d 10.88.1.0/24 -m comment --comment "name: \"keelstone-1-w1\" id: \"x\"" -j ACCEPT
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"keelstone-1-w1\" id: \"x\"" -j CNI-DN-cc
COMMIT
"#;
        let expected = r#"*nat
-D POSTROUTING -s 10.88.1.2/32 -m comment --comment "name: \"keelstone-1-w1\" id: \"x\"" -j CNI-aa
-D CNI-aa -d 10.88.1.0/24 -m comment --comment "name: \"keelstone-1-w1\" id: \"x\"" -j ACCEPT
-D CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"keelstone-1-w1\" id: \"x\"" -j CNI-DN-cc
-F CNI-aa
-F CNI-DN-cc
-X CNI-aa
-X CNI-DN-cc
COMMIT
"#;
        assert_eq!(filter_changes(rules, "keelstone-1-w1").as_deref(), Some(expected));
        assert_eq!(filter_changes(rules, "keelstone-2-w1"), None);
    }
}
