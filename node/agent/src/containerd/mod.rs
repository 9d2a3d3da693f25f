//! A containerd of a worker's own: its root, state, socket, CNI network and parent cgroup are apart from
//! those of others, so that several workers fit on one machine and the loss of one is real.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a leaf: it sets up and tears down a runtime

mod image;
mod sweep;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

pub use image::BUSYBOX_IMAGE;
pub use sweep::{clean, end_containers};

/// What a sandbox itself runs.
pub const SANDBOX_IMAGE: &str = "keelstone.local/pause:1";

const CNI_BIN: &str = "/usr/lib/cni";
const START_WAIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// containerd's CRI side notes an imported image by this label.
const NOTED: &str = "io.cri-containerd.image=managed";

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
    if !Path::new(image::BUSYBOX).exists() {
        return Err("busybox-static is not installed".into());
    }
    Ok(())
}

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
    /// `cluster_dir` is an absolute path: it also tells this cluster from others on the machine.
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

    /// The name of the CNI network; its rules in the host's packet filter carry it.
    fn network(&self) -> String {
        format!("keelstone-{}-{}", tag(&self.cluster_dir), self.worker)
    }

    pub fn cgroup_parent(&self) -> String {
        format!("/keelstone-{}/{}", tag(&self.cluster_dir), self.worker)
    }

    /// Writes the configuration; returns the arguments of `containerd`.
    ///
    /// # Errors
    /// If a folder or file cannot be written.
    pub fn prepare(&self) -> io::Result<Vec<String>> {
        let cni = self.dir.join("cni");
        fs::create_dir_all(&cni)?;
        fs::create_dir_all(self.run_dir())?;
        let bridge = bridge(&self.cluster_dir, &self.worker);
        let network = serde_json::json!({
            "cniVersion": "0.4.0",
            "name": self.network(),
            "plugins": [
                {"type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true, "hairpinMode": true,
                 "ipam": {"type": "host-local", "dataDir": self.dir.join("ipam"),
                          "ranges": [[{"subnet": self.pod_cidr}]], "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        // containerd watches the folder: it must not read half a file.
        let part = self.dir.join("network.part");
        fs::write(&part, serde_json::to_string_pretty(&network)?)?;
        fs::rename(part, cni.join("10-keelstone.conflist"))?;
        let config = self.dir.join("config.toml");
        fs::write(&config, self.config(&cni))?;
        Ok(vec!["--config".into(), config.display().to_string(), "--log-level".into(), "warn".into()])
    }

    fn config(&self, cni: &Path) -> String {
        format!(
            r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  # Without it, a machine that withholds CAP_SYS_RESOURCE cannot start sandboxes.
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "{SANDBOX_IMAGE}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  # Else they stay behind when the worker is lost.
  netns_mounts_under_state_dir = true
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

    /// Runs the runtime's own tool; returns what it printed.
    fn ctr(&self, arguments: &[&str]) -> io::Result<String> {
        let output =
            Command::new("ctr").arg("-a").arg(self.socket()).args(["-n", "k8s.io"]).args(arguments).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    /// Waits until it answers; a fresh one is given the images that need no registry.
    ///
    /// # Errors
    /// If it does not answer in time, or an image cannot be made or imported.
    pub fn ready(&self, fresh: bool) -> io::Result<()> {
        let said = |error: io::Error| io::Error::other(format!("containerd of {}: {error}", self.worker));
        self.until(|| self.ctr(&["version"]).map(drop)).map_err(said)?;
        if fresh {
            for (name, path) in image::write_all(&self.cluster_dir)? {
                self.ctr(&["images", "import", &path.display().to_string()]).map_err(said)?;
                self.until(|| self.has_image(name)).map_err(said)?;
            }
        }
        Ok(())
    }

    fn has_image(&self, name: &str) -> io::Result<()> {
        let listed = self.ctr(&["images", "ls"])?;
        match listed.lines().any(|l| l.starts_with(name) && l.contains(NOTED)) {
            true => Ok(()),
            false => Err(io::Error::other(format!("image {name} was imported but is not noted"))),
        }
    }

    fn until(&self, done: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let deadline = Instant::now() + START_WAIT;
        loop {
            match done() {
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(POLL),
                Ok(()) => return Ok(()),
            }
        }
    }
}
