//! A run in network, mount and PID namespaces of its own: bridges and addresses are private, and whatever it
//! started ends with it, also after a failure.

use std::{os::unix::process::CommandExt, process::Command};

use crate::failure::{Failure, Outcome};

const MARK: &str = "KEELSTONE_CHAOS_ISOLATED";

/// Returns inside the namespaces; outside, the process is replaced by one inside.
pub fn enter() -> Outcome<()> {
    if std::env::var_os(MARK).is_some() {
        return prepare();
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::impossible("this needs root: it makes namespaces"));
    }
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(Failure::impossible(format!("unshare (of util-linux): {error}")))
}

fn prepare() -> Outcome<()> {
    // Named network namespaces are files here: private ones leave nothing behind.
    std::fs::create_dir_all("/run/netns")?;
    for command in [&["ip", "link", "set", "lo", "up"][..], &["mount", "-t", "tmpfs", "netns", "/run/netns"]] {
        let status = Command::new(command[0]).args(&command[1..]).status();
        if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
            return Err(Failure::impossible(format!("{}: {status:?}", command.join(" "))));
        }
    }
    Ok(())
}
