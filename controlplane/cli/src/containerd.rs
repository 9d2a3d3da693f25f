//! One containerd for each worker: its own root, state, socket, CNI network and parent cgroup, so that the
//! loss of a worker can be real.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};

use crate::Failure;

const START_WAIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Why containers cannot run on this machine; `Ok` if nothing speaks against it.
pub fn usable() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("not root".into());
    }
    for program in ["containerd", "runc", "ctr"] {
        let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|s| s.success()) {
            return Err(format!("{program} is not installed"));
        }
    }
    if !Path::new(CNI_BIN).join("bridge").exists() {
        return Err("the CNI plugins are not installed".into());
    }
    Ok(())
}

const CNI_BIN: &str = "/usr/lib/cni";

/// A name that is the same for the same cluster folder: FNV-1a. Interfaces and cgroups are named by it, so
/// that two clusters on one machine do not meet.
fn tag(dir: &Path) -> String {
    let bytes = dir.to_string_lossy().into_owned();
    let hash = bytes.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:06x}", hash & 0xff_ffff)
}

/// The bridge of a worker's pods (an interface's name has at most 15 letters).
pub fn bridge(dir: &Path, worker: &str) -> String {
    format!("ks{}{worker}", tag(dir)).chars().take(15).collect()
}

/// The containerd of one worker.
pub struct Containerd {
    cluster_dir: PathBuf,
    dir: PathBuf,
    worker: String,
    pod_cidr: String,
}

impl Containerd {
    pub fn new(cluster_dir: &Path, worker: &str, pod_cidr: &str) -> Self {
        Self {
            cluster_dir: cluster_dir.to_owned(),
            dir: cluster_dir.join(worker).join("containerd"),
            worker: worker.to_owned(),
            pod_cidr: pod_cidr.to_owned(),
        }
    }

    /// Sockets have short paths (108 bytes), so it lies outside the cluster's folder.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("containerd.sock")
    }

    fn run_dir(&self) -> PathBuf {
        PathBuf::from(format!("/run/keelstone/{}-{}", tag(&self.cluster_dir), self.worker))
    }

    pub fn cgroup_parent(&self) -> String {
        format!("/keelstone-{}/{}", tag(&self.cluster_dir), self.worker)
    }

    /// Writes the configuration; returns the command line.
    pub fn prepare(&self) -> Result<Vec<String>, Failure> {
        let cni = self.dir.join("cni");
        fs::create_dir_all(&cni)?;
        fs::create_dir_all(self.run_dir())?;
        let bridge = bridge(&self.cluster_dir, &self.worker);
        let network = serde_json::json!({
            "cniVersion": "0.4.0",
            "name": format!("keelstone-{}", self.worker),
            "plugins": [
                {"type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true, "hairpinMode": true,
                 "ipam": {"type": "host-local", "dataDir": self.dir.join("ipam"),
                          "ranges": [[{"subnet": self.pod_cidr}]], "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        fs::write(cni.join("10-keelstone.conflist"), serde_json::to_string_pretty(&network)?)?;
        let config = self.dir.join("config.toml");
        fs::write(&config, self.config(&cni))?;
        Ok(vec!["--config".into(), config.display().to_string(), "--log-level".into(), "warn".into()])
    }

    fn config(&self, cni: &Path) -> String {
        format!(
            r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  # Without it, a machine that withholds CAP_SYS_RESOURCE cannot start sandboxes.
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "{SANDBOX_IMAGE}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_BIN}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
            root = self.dir.join("root").display(),
            state = self.run_dir().join("state").display(),
            socket = self.socket().display(),
            cni = cni.display(),
        )
    }

    fn ctr(&self, arguments: &[&str]) -> io::Result<()> {
        let output =
            Command::new("ctr").arg("-a").arg(self.socket()).args(["-n", "k8s.io"]).args(arguments).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    /// Waits until it answers; a fresh one is given the images that need no registry.
    pub fn ready(&self, fresh: bool) -> Result<(), Failure> {
        let deadline = Instant::now() + START_WAIT;
        while let Err(error) = self.ctr(&["version"]) {
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!("containerd of {} does not answer: {error}", self.worker)));
            }
            std::thread::sleep(POLL);
        }
        if fresh {
            for (name, path) in crate::image::write_all(&self.cluster_dir)? {
                self.ctr(&["images", "import", &path.display().to_string()])
                    .map_err(|e| Failure::Failed(format!("image {name} cannot be imported: {e}")))?;
            }
        }
        Ok(())
    }
}

pub const SANDBOX_IMAGE: &str = "keelstone.local/pause:1";

/// Ends everything that runs in a worker's containers: the processes of its cgroups and their supervisors.
pub fn end_containers(cluster_dir: &Path, runtime: &str, worker: &str, pod_cidr: &str) {
    let mark = match runtime {
        "cri" => Containerd::new(cluster_dir, worker, pod_cidr).socket().display().to_string(),
        // The supervisors of the `process` runtime have the worker's folder on their command line.
        "process" => format!("container-shim\0{}", cluster_dir.join(worker).join("process").display()),
        _ => return,
    };
    let shims = processes_with(&mark);
    for shim in &shims {
        for child in descendants(*shim) {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
    }
    // containerd's own supervisors end by themselves once their processes are gone; a dead worker's do not.
    for shim in shims {
        let is_supervisor = command_line(shim).is_some_and(|c| c.contains("shim"));
        if is_supervisor {
            let _ = kill(Pid::from_raw(shim), Signal::SIGKILL);
        }
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

fn descendants(of: i32) -> Vec<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all: Vec<(i32, i32)> = pids().into_iter().filter_map(|p| Some((p, parent(p)?))).collect();
    let mut found = vec![of];
    let mut at = 0;
    while let Some(&next) = found.get(at) {
        found.extend(all.iter().filter(|(_, p)| *p == next).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}

/// Takes away what a stopped worker left outside the cluster's folder: network namespaces and the bridge.
pub fn clean(cluster_dir: &Path, worker: &str) {
    let quiet = |arguments: &[&str]| {
        let _ = Command::new("ip").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    };
    quiet(&["link", "del", &bridge(cluster_dir, worker)]);
    let run = Containerd::new(cluster_dir, worker, "").run_dir();
    for mounted in mounts_below(&run.display().to_string()) {
        let _ = Command::new("umount").arg("-l").arg(mounted).status();
    }
    let _ = fs::remove_dir_all(run);
}

/// Mount points below a folder, the deepest first.
fn mounts_below(dir: &str) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found: Vec<String> =
        text.lines().filter_map(|l| Some(l.split(' ').nth(1)?.to_owned())).filter(|m| m.starts_with(dir)).collect();
    found.sort_by_key(|m| std::cmp::Reverse(m.len()));
    found
}
