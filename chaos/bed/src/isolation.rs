//! A run in network, mount and PID namespaces of its own: bridges and addresses are private, and whatever it
//! started ends with it, also after a failure.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{found, shell, sweep, work::Work, Failure, Outcome};

/// Names the run's folder, and tells the inner process that it is inside.
const MARK: &str = "KEELSTONE_CHAOS_ISOLATED";
/// Below it every run has a folder for what it does not keep.
pub const WORK_ROOT: &str = "/var/tmp/keelstone-chaos";

/// Returns inside the namespaces; outside, the process is replaced by one inside.
///
/// # Errors
/// [`Failure::Impossible`]: not root, or a program is missing; one line says which.
pub fn enter() -> Outcome<Work> {
    if let Some(folder) = std::env::var_os(MARK) {
        let work = Work::taken_over(PathBuf::from(folder));
        prepare()?;
        return Ok(work);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::impossible("this needs root: it makes namespaces"));
    }
    require(&["unshare", "ip", "mount"])?;
    let root = Path::new(WORK_ROOT);
    let swept = sweep(root);
    if swept > 0 {
        eprintln!("removed what {swept} interrupted runs had left in {WORK_ROOT}");
    }
    let folder = Work::make(root)?.hand_over();
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, folder)
        .exec();
    Err(Failure::impossible(format!("unshare (of util-linux): {error}")))
}

/// # Errors
/// [`Failure::Impossible`] with all programs of `programs` that are not there.
pub fn require(programs: &[&str]) -> Outcome<()> {
    let missing: Vec<&str> = programs.iter().copied().filter(|p| found(p).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::impossible(format!("not installed: {}", missing.join(", "))))
}

fn prepare() -> Outcome<()> {
    // Named network namespaces are files here: private ones leave nothing behind.
    std::fs::create_dir_all("/run/netns")?;
    shell(&["ip", "link", "set", "lo", "up"])?;
    shell(&["mount", "-t", "tmpfs", "netns", "/run/netns"]).map(drop)
}
