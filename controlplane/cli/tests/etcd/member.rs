//! The real binary under the name `etcd`, and etcdctl.

use std::{
    fs::File,
    net::TcpListener,
    os::unix::{fs::symlink, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};

/// Time that a member has until it serves.
const START_S_MAX: u64 = 30;

/// A link named `etcd` to the binary, in `dir`.
pub fn etcd(dir: &Path) -> Command {
    let link = dir.join("etcd");
    if !link.exists() {
        symlink(env!("CARGO_BIN_EXE_keelstone"), &link).unwrap();
    }
    let mut command = Command::new(link);
    command.env_clear().current_dir(dir);
    command
}

/// Ports that were free a moment ago.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// A started member; killed with the test.
pub struct Member {
    child: Child,
    notify: UnixDatagram,
    log: PathBuf,
}

impl Member {
    /// Starts it as a unit file of type `notify` would, its output in `<dir>/<name>.log`.
    pub fn start(mut command: Command, dir: &Path, name: &str) -> Self {
        let socket = dir.join(format!("{name}.notify"));
        let _ = std::fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(START_S_MAX))).unwrap();
        let log = dir.join(format!("{name}.log"));
        command.env("NOTIFY_SOCKET", &socket).stdin(Stdio::null());
        command.stdout(File::create(&log).unwrap()).stderr(File::options().append(true).open(&log).unwrap());
        Self { child: command.spawn().unwrap(), notify, log }
    }

    /// Waits until it says that it serves.
    pub fn wait_until_ready(&self) {
        let mut said = [0; 64];
        let read = self.notify.recv(&mut said).unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        assert_eq!(&said[..read], b"READY=1");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Ends it as a service manager does.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// etcdctl on some endpoints; `None`, said on the output, if there is no etcdctl.
pub struct Ctl {
    binary: PathBuf,
    arguments: Vec<String>,
}

impl Ctl {
    pub fn find(endpoints: &[String]) -> Option<Self> {
        let binary = PathBuf::from(std::env::var_os("ETCDCTL").unwrap_or_else(|| "/usr/bin/etcdctl".into()));
        if !binary.exists() {
            println!("SKIPPED: {} is missing (set $ETCDCTL)", binary.display());
            return None;
        }
        Some(Self { binary, arguments: vec![format!("--endpoints={}", endpoints.join(","))] })
    }

    pub fn with(mut self, arguments: &[String]) -> Self {
        self.arguments.extend_from_slice(arguments);
        self
    }

    /// Whether it succeeded, and all that it said.
    pub fn try_run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(&self.binary);
        command.env("ETCDCTL_API", "3").args(&self.arguments).args(arguments).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    /// What a command says that must succeed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let (success, text) = self.try_run(arguments);
        assert!(success, "{arguments:?}: {text}");
        text
    }
}
