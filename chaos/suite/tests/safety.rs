//! A run touches only what it made, whatever becomes of it. Root is needed, as for every run; without it the one line that
//! says so is what is checked.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const SUITE: &str = env!("CARGO_BIN_EXE_keelstone-chaos");
const WORK_ROOT: &str = "/var/tmp/keelstone-chaos";
const LIMIT: Duration = Duration::from_secs(30);

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A target that starts and never serves: the run waits for it.
fn started(folder: &Path) -> Child {
    let mut command = Command::new(SUITE);
    command.args(["store", "--seconds", "5", "--own-disks", "--program", "/bin/sleep", "--folder"]).arg(folder);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The folders of runs that began with this process.
fn work_of(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(WORK_ROOT).into_iter().flatten().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.starts_with(&format!("{pid}-"))).collect()
}

fn until(what: &str, seen: impl Fn() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn one_line(output: &Output, part: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.trim().lines().count() == 1 && said.contains(part), "{said}");
}

fn disk_is_mounted_by(pid: u32) -> bool {
    // The run's own mount namespace is that of its inner process, the child of `unshare`.
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().any(|child| {
        let mounts = fs::read_to_string(format!("/proc/{child}/mounts")).unwrap_or_default();
        mounts.contains("/m3/disk")
    })
}

#[test]
fn two_runs_at_once_do_not_meet_and_a_killed_one_is_cleaned_by_the_next() {
    if !root() {
        let output = Command::new(SUITE).args(["divergence", "--program", "/bin/sleep"]).output().unwrap();
        return one_line(&output, "this needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut a, mut b) = (started(&folder.path().join("a")), started(&folder.path().join("b")));
    for run in [&a, &b] {
        until("the run makes its disks", || disk_is_mounted_by(run.id()));
        assert_eq!(work_of(run.id()).len(), 1);
    }
    let outside = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!outside.contains(WORK_ROOT), "mounts are private to the runs");
    let left = Path::new(WORK_ROOT).join(&work_of(a.id())[0]);
    a.kill().unwrap();
    a.wait().unwrap();
    assert!(left.is_dir(), "SIGKILL leaves the folder");
    // Any run cleans, also one that then fails.
    let output = Command::new(SUITE).args(["divergence", "--members", "200"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    until("the next run removes it", || !left.exists());
    assert_eq!(work_of(b.id()).len(), 1, "the one that runs keeps its own");
    b.kill().unwrap();
    b.wait().unwrap();
    let _ = Command::new(SUITE).args(["divergence", "--members", "200"]).output().unwrap();
}

#[test]
fn wrong_targets_flags_and_missing_privilege_are_one_line_each() {
    let run = |arguments: &[&str]| Command::new(SUITE).args(arguments).output().unwrap();
    one_line(&run(&["store", "--target", "zookeeper"]), "unknown target");
    one_line(&run(&["store", "--program", "/nowhere"]), "is not a program");
    one_line(&run(&["store", "--program", "/bin/sleep", "--nemeses", "earthquake"]), "no nemesis");
    one_line(&run(&["cluster", "--keelstone", "/nowhere"]), "is not a file");
    one_line(&run(&["cluster", "--keelstone", "/bin/sleep", "--masters", "9"]), "1 to 5 masters");
    one_line(&run(&["cluster", "--keelstone", "/bin/sleep", "--workloads", "poetry"]), "no workload");
    one_line(&run(&["cluster", "--keelstone", "/bin/sleep", "--seconds", "3600"]), "at most 500 s");
    one_line(&run(&["check", "/nowhere"]), "No such file");
    if root() {
        // As somebody without privileges; the program may lie where only root looks.
        let beside = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
        let copy = beside.path().join("keelstone-chaos");
        fs::copy(SUITE, &copy).unwrap();
        let output =
            Command::new(&copy).args(["divergence", "--program", "/bin/sleep"]).uid(65_534).gid(65_534).output();
        one_line(&output.unwrap(), "this needs root");
    }
}

fn open_to_all() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}
