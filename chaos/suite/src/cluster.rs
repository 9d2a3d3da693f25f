//! A cluster that `keelstone up` made: its addresses, and its starting, killing and stopping.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::process::Command;

use crate::{
    constants::UP_MAX,
    failure::{Failure, Outcome},
    kubeconfig::{Access, Kubeconfig},
    kubectl::{run, Said},
};

#[derive(Clone)]
pub struct Cluster {
    pub dir: PathBuf,
    pub keelstone: PathBuf,
    pub masters: Vec<String>,
    pub workers: Vec<String>,
    /// `cri`, `process` or `hollow`.
    pub runtime: String,
    /// How long a node may be silent.
    pub grace: Duration,
    /// How long pods stay on a lost node.
    pub toleration: Duration,
    spec: Value,
}

fn program(path: &Path) -> Outcome<PathBuf> {
    path.canonicalize().map_err(|e| Failure::impossible(format!("{}: {e}", path.display())))
}

impl Cluster {
    /// The cluster in `dir`.
    pub fn open(dir: &Path, keelstone: &Path) -> Outcome<Self> {
        let file = dir.join("cluster.json");
        let text = std::fs::read_to_string(&file).map_err(|e| {
            Failure::impossible(format!("{}: {e}; `keelstone up --dir` makes a cluster", file.display()))
        })?;
        let spec: Value =
            serde_json::from_str(&text).map_err(|e| Failure::impossible(format!("{}: {e}", file.display())))?;
        let names = |list: &str| -> Vec<String> {
            let entries = spec[list].as_array().into_iter().flatten();
            entries.filter_map(|e| Some(e["name"].as_str()?.to_owned())).collect()
        };
        let seconds = |name: &str| Duration::from_secs(spec["timings"][name].as_u64().unwrap_or(0));
        Ok(Self {
            dir: dir.canonicalize()?,
            keelstone: program(keelstone)?,
            masters: names("masters"),
            workers: names("workers"),
            runtime: spec["runtime"].as_str().unwrap_or_default().to_owned(),
            grace: seconds("node_monitor_grace_period_s"),
            toleration: seconds("eviction_toleration_s"),
            spec,
        })
    }

    /// Makes and starts a cluster on any free ports.
    pub async fn start(dir: &Path, keelstone: &Path, arguments: &[&str]) -> Outcome<Self> {
        let keelstone = program(keelstone)?;
        let said = up(&keelstone, dir, arguments).await;
        print!("{}", said.out);
        if !said.ok() {
            return Err(Failure::broken(format!("keelstone up ended with {}: {}", said.code, said.all())));
        }
        Self::open(dir, &keelstone)
    }

    /// Starts again whatever does not run, and waits until all is ready.
    pub async fn up(&self) -> Outcome<()> {
        let said = up(&self.keelstone, &self.dir, &[]).await;
        if said.ok() {
            return Ok(());
        }
        Err(Failure::broken(format!("keelstone up ended with {}: {}", said.code, said.all())))
    }

    pub async fn kill(&self, name: &str, flags: &[&str]) -> Outcome<()> {
        let said = self.command(&[&["kill"], flags, &[name]].concat()).await;
        if said.ok() {
            return Ok(());
        }
        Err(Failure::impossible(format!("keelstone kill {name}: {}", said.all())))
    }

    pub async fn down(&self) {
        let said = self.command(&["down"]).await;
        if !said.ok() {
            eprintln!("keelstone down: {}", said.all());
        }
    }

    async fn command(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(&self.keelstone);
        command.arg(arguments[0]).arg("--dir").arg(&self.dir).args(&arguments[1..]);
        run(command, None, UP_MAX).await
    }

    pub fn kubeconfig_path(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    pub fn kubeconfig(&self) -> Outcome<Kubeconfig> {
        Kubeconfig::load(&self.kubeconfig_path())
    }

    /// The way through the balancer.
    pub fn balancer(&self) -> Outcome<Access> {
        self.kubeconfig()?.access("keelstone")
    }

    pub fn master(&self, name: &str) -> Outcome<Access> {
        self.kubeconfig()?.access(name)
    }

    /// `host:port` where a master's store member serves etcd clients.
    pub fn store_address(&self, master: &str) -> String {
        let masters = self.spec["masters"].as_array().into_iter().flatten();
        let port = masters.filter(|m| m["name"] == master).find_map(|m| m["store_client_port"].as_u64());
        format!("{}:{}", self.spec["host"].as_str().unwrap_or("127.0.0.1"), port.unwrap_or(0))
    }

    /// A file of the cluster's certificates.
    pub fn pki(&self, file: &str) -> Outcome<String> {
        let path = self.dir.join("pki").join(file);
        std::fs::read_to_string(&path).map_err(|e| Failure::impossible(format!("{}: {e}", path.display())))
    }

    /// The process of a part, by its pid file.
    pub fn pid(&self, name: &str) -> Option<i32> {
        let text = std::fs::read_to_string(self.dir.join("pids").join(format!("{name}.pid"))).ok()?;
        let started: Value = serde_json::from_str(&text).ok()?;
        started["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
    }
}

async fn up(keelstone: &Path, dir: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(keelstone);
    command.arg("up").arg("--dir").arg(dir).args(arguments);
    run(command, None, UP_MAX).await
}
