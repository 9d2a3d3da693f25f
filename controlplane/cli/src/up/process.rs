//! Processes that outlive the command that started them: each in a session of its own, known by its pid and
//! start time, so that a recycled pid is never taken for it.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

const STOP_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A started process, as its `<name>.pid` file has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    pub pid: i32,
    /// Clock ticks since boot at its start: field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
}

/// The processes of one cluster, by name, with their pid files in one folder and logs in another.
pub struct Processes {
    dir: PathBuf,
}

impl Processes {
    pub fn new(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir.join("pids"))?;
        fs::create_dir_all(dir.join("logs"))?;
        Ok(Self { dir: dir.to_owned() })
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.dir.join("pids").join(format!("{name}.pid"))
    }

    /// The process of this name, if it runs.
    pub fn running(&self, name: &str) -> Option<Started> {
        let text = fs::read_to_string(self.pid_file(name)).ok()?;
        let started: Started = serde_json::from_str(&text).ok()?;
        (start_ticks(started.pid) == Some(started.start_ticks)).then_some(started)
    }

    /// All names that were ever started, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.join("pids")).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|e| Some(e.path().file_stem()?.to_string_lossy().into_owned())).collect();
        names.sort();
        names
    }

    /// Starts `command` under `name` unless it runs already; true if it was started.
    pub fn start(&self, name: &str, program: &Path, arguments: &[String]) -> io::Result<bool> {
        if self.running(name).is_some() {
            return Ok(false);
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log(name))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let start_ticks = start_ticks(pid).ok_or_else(|| io::Error::other(format!("{name} ended at once")))?;
        fs::write(self.pid_file(name), serde_json::to_string(&Started { pid, start_ticks })?)?;
        Ok(true)
    }

    /// Sends a signal; false if it does not run.
    pub fn signal(&self, name: &str, signal: Signal) -> bool {
        self.running(name).is_some_and(|p| kill(Pid::from_raw(p.pid), signal).is_ok())
    }

    /// Ends processes together: SIGTERM, and SIGKILL for those that are still there after ten seconds.
    pub fn stop(&self, names: &[String]) {
        for name in names {
            self.signal(name, Signal::SIGTERM);
        }
        let deadline = Instant::now() + STOP_WAIT;
        while Instant::now() < deadline && names.iter().any(|n| self.running(n).is_some()) {
            std::thread::sleep(POLL);
        }
        for name in names {
            if self.signal(name, Signal::SIGKILL) {
                eprintln!("{name} did not end within {STOP_WAIT:?}; killed");
            }
            let _ = fs::remove_file(self.pid_file(name));
        }
    }
}

/// When a live process started; `None` if there is none, or only its remains (a zombie).
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in brackets and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let zombie = fields.first() == Some(&"Z");
    (!zombie).then(|| fields.get(19)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_once_finds_again_and_ends() {
        let dir = std::env::temp_dir().join(format!("keelstone-processes-{}", std::process::id()));
        let processes = Processes::new(&dir).unwrap();
        let sleep = |seconds: &str| vec![seconds.to_owned()];
        assert!(processes.start("a", Path::new("/bin/sleep"), &sleep("60")).unwrap());
        assert!(!processes.start("a", Path::new("/bin/sleep"), &sleep("60")).unwrap());
        assert!(Processes::new(&dir).unwrap().running("a").is_some());
        processes.stop(&["a".to_owned()]);
        assert!(processes.running("a").is_none());
        fs::remove_dir_all(dir).unwrap();
    }
}
