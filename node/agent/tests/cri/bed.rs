//! A containerd with folders, a socket and a network namespace of its own, and nothing left of it afterwards.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use keelstone_agent::{
    containerd::{self, Containerd, BUSYBOX_IMAGE},
    runtime::{
        cri::{CriOptions, CriRuntime},
        ContainerSpec, ContainerState, PodIdentity, Runtime, RuntimeError, SandboxSpec, SandboxState,
    },
};
use keelstone_env::Env;
use tempfile::TempDir;

pub const WORKER: &str = "w1";
const POD_CIDR: &str = "10.97.1.0/24";
const WAIT: Duration = Duration::from_secs(20);

static BEDS: AtomicU32 = AtomicU32::new(0);

pub struct Bed {
    pub dir: TempDir,
    pub containerd: Containerd,
    pub runtime: CriRuntime,
    namespace: String,
    child: Option<Child>,
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Bed {
    /// `None`, and the reason is printed, where containers cannot run.
    pub fn new() -> Option<Self> {
        if let Err(why) = containerd::usable() {
            println!("skipped: {why}");
            return None;
        }
        let namespace = format!("kst-{}-{}", std::process::id(), BEDS.fetch_add(1, Ordering::SeqCst));
        let made = Command::new("ip").args(["netns", "add", &namespace]).output();
        if !made.as_ref().is_ok_and(|o| o.status.success()) {
            println!("skipped: no network namespace can be made: {made:?}");
            return None;
        }
        let dir = TempDir::new().unwrap();
        let containerd = Containerd::new(dir.path(), WORKER, POD_CIDR);
        let mut bed = Self { runtime: runtime(&containerd), containerd, dir, namespace, child: None };
        ip(&["-n", &bed.namespace, "link", "set", "lo", "up"]);
        bed.start();
        Some(bed)
    }

    /// Starts containerd, as a later start of the same worker does.
    pub fn start(&mut self) {
        let arguments = self.containerd.prepare().unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("containerd").args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        if let Err(error) = self.containerd.ready(true) {
            panic!("{error}\n{}", std::fs::read_to_string(self.log()).unwrap_or_default());
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("containerd.log")
    }

    /// SIGKILL to containerd alone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The runtime as an agent that was started anew has it.
    pub fn fresh_runtime(&self) -> CriRuntime {
        runtime(&self.containerd)
    }

    pub fn sandbox(&self, name: &str) -> SandboxSpec {
        SandboxSpec {
            pod: PodIdentity { uid: format!("uid-{name}"), namespace: "default".into(), name: name.into() },
            hostname: name.into(),
            log_dir: self.dir.path().join("logs").join(name),
            ..SandboxSpec::default()
        }
    }

    pub async fn one(&self, name: &str) -> SandboxState {
        let all = self.runtime.observe().await.unwrap();
        all.into_iter().find(|s| s.pod.name == name).unwrap_or_else(|| panic!("no sandbox of {name}"))
    }

    /// Waits until the container is as wished.
    pub async fn until(&self, id: &str, wish: impl Fn(&ContainerState) -> bool) -> ContainerState {
        let mut last = None;
        let looking = async {
            loop {
                // The first call after containerd was started anew may meet the old connection's end.
                let all = match self.runtime.observe().await {
                    Err(RuntimeError::Unavailable(_)) => Vec::new(),
                    seen => seen.unwrap(),
                };
                last = all.into_iter().flat_map(|s| s.containers).find(|c| c.id == id);
                if let Some(container) = last.as_ref().filter(|c| wish(c)) {
                    return container.clone();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(WAIT, looking).await {
            Ok(container) => container,
            Err(_) => panic!("container {id} is not as wished but {last:?}"),
        }
    }

    /// Ends everything as for a lost worker.
    pub fn lose(&mut self) {
        self.kill();
        let dir = self.dir.path().to_owned();
        // It has a runtime of its own inside, which must not lie within this one.
        std::thread::spawn(move || containerd::end_containers(&dir, "cri", WORKER, POD_CIDR)).join().unwrap();
    }

    pub fn clean(&self) {
        containerd::clean(self.dir.path(), WORKER);
    }
}

fn runtime(containerd: &Containerd) -> CriRuntime {
    let options =
        CriOptions { socket: containerd.socket(), node: WORKER.into(), cgroup_parent: containerd.cgroup_parent() };
    CriRuntime::new(Env::os(), options)
}

impl Drop for Bed {
    fn drop(&mut self) {
        let dir = self.dir.path().to_owned();
        let _ = std::thread::spawn(move || containerd::end_containers(&dir, "cri", WORKER, POD_CIDR)).join();
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.clean();
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

/// A container that runs a shell script.
pub fn script(name: &str, text: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image: BUSYBOX_IMAGE.into(),
        image_pull_policy: "IfNotPresent".into(),
        command: vec!["/bin/sh".into(), "-c".into(), text.into()],
        cpu_shares: 2,
        log_path: format!("{name}/0.log"),
        ..ContainerSpec::default()
    }
}

pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

/// Processes whose command line has `mark`.
pub fn processes_with(mark: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    let lines = lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " "));
    lines.filter(|l| l.contains(mark)).collect()
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
