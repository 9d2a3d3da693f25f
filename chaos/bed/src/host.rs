//! One host: a network namespace, a data directory, and at most one process under test.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use crate::{
    clock,
    constants::{POLL, STOP_TIME_MAX},
    disk::Disk,
    faulty::FaultyDisk,
    link::{Delay, Link},
    mounts::Mounts,
    shell, Failure, Outcome,
};

/// What a host runs.
#[derive(Clone, Debug)]
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

#[derive(Debug)]
pub struct Host {
    pub name: String,
    pub address: Ipv4Addr,
    /// The process keeps everything below it.
    pub data: PathBuf,
    /// All that its processes ever said.
    pub log: PathBuf,
    /// Its own filesystem, with `data` on it.
    pub disk: Option<Disk>,
    /// What its data goes through, if its disk can be slow or fail.
    pub faulty: Option<FaultyDisk>,
    /// How late its packets are, if its cable can be slow.
    pub delay: Option<Delay>,
    /// The file that its wall clock is read from, with the library that reads it.
    pub clock: Option<(PathBuf, PathBuf)>,
    /// What it sees of the run's mounts, if not all.
    pub(crate) mounts: Option<Mounts>,
    /// Carries its frames for as long as it exists.
    pub(crate) _link: Option<Link>,
    pub(crate) process: Mutex<Option<Child>>,
}

impl Host {
    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process; it must not run yet.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&self, launch: &Launch) -> Outcome<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new("nsenter");
        command.args(self.namespaces()).args(["--", "env"]);
        if let Some((library, file)) = &self.clock {
            command.args(clock::environment(library, file).into_iter().map(|(name, value)| format!("{name}={value}")));
        }
        command.arg(&launch.program).args(&launch.arguments).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().map_err(|e| Failure::impossible(format!("{}: nsenter: {e}", self.name)))?;
        *self.process() = Some(child);
        Ok(())
    }

    /// What `nsenter` takes to be on this host.
    pub fn namespaces(&self) -> Vec<String> {
        let mounts = self.mounts.as_ref().map(|m| format!("--mount={}", m.path().display()));
        std::iter::once(format!("--net=/run/netns/{}", self.name)).chain(mounts).collect()
    }

    /// The pid of the process if it runs (or is frozen).
    pub fn pid(&self) -> Option<Pid> {
        let mut process = self.process();
        let child = process.as_mut()?;
        match child.try_wait() {
            Ok(None) => child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw),
            _ => None,
        }
    }

    /// How the process ended by itself, if it did.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.process().as_mut()?.try_wait().ok().flatten()
    }

    /// Sends a signal to the process, if it runs.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn signal(&self, signal: Signal) -> Outcome<()> {
        match self.pid() {
            Some(pid) => kill(pid, signal).map_err(|e| Failure::impossible(format!("{}: {signal}: {e}", self.name))),
            None => Ok(()),
        }
    }

    /// Ends the process with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// It does not go.
    pub async fn kill(&self) -> Outcome<()> {
        self.signal(Signal::SIGKILL)?;
        self.gone().await
    }

    /// Asks the process to end, and kills it if it does not.
    ///
    /// # Errors
    /// As [`Host::kill`].
    pub async fn stop(&self) -> Outcome<()> {
        self.signal(Signal::SIGTERM)?;
        match self.gone().await {
            Ok(()) => Ok(()),
            Err(_) => self.kill().await,
        }
    }

    async fn gone(&self) -> Outcome<()> {
        let begun = Instant::now();
        while self.pid().is_some() {
            if begun.elapsed() > STOP_TIME_MAX {
                return Err(Failure::impossible(format!("{}: its process does not end", self.name)));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Runs a command of the system inside this host's network.
    ///
    /// # Errors
    /// What the command said.
    pub fn inside(&self, words: &[&str]) -> Outcome<String> {
        let namespace = format!("--net=/run/netns/{}", self.name);
        shell(&[&["nsenter", &namespace, "--"], words].concat())
    }

    /// Takes the host's data away, as a lost disk does.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn wipe(&self) -> Outcome<()> {
        fs::remove_dir_all(&self.data)?;
        fs::create_dir_all(&self.data)?;
        Ok(())
    }
}
