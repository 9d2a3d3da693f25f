//! What the process runtime keeps on disk of sandboxes and containers: JSON files, written in one step.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{de::DeserializeOwned, Deserialize, Serialize};

use crate::runtime::{ContainerSpec, PodIdentity, SandboxSpec};

/// Without an image, the search path is the one that images usually have.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub attempt: u32,
    pub hostname: String,
    /// Empty: the host's network.
    pub network_namespace: String,
    pub ip: String,
    pub created_unix_ns: i64,
    pub stopped: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub name: String,
    pub attempt: u32,
    pub image: String,
    pub command: Vec<String>,
    pub working_dir: String,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<MountRecord>,
    pub hostname: String,
    pub network_namespace: String,
    pub log_file: PathBuf,
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    pub read_only_root: bool,
    #[serde(default)]
    pub no_new_privileges: bool,
    pub created_unix_ns: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountRecord {
    pub host_path: PathBuf,
    pub container_path: String,
    pub read_only: bool,
}

/// A process, told from a later one with the same pid by its start time in clock ticks since boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    pub start_ticks: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    pub process: Process,
    pub unix_ns: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exit {
    pub code: i32,
    pub finished_unix_ns: i64,
    pub message: String,
}

impl Process {
    /// The live process of this pid; `None` if there is none, or only its remains.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let start_ticks = fields.get(19)?.parse().ok()?;
        (fields.first() != Some(&"Z")).then_some(Self { pid, start_ticks })
    }

    pub fn runs(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.start_ticks == self.start_ticks)
    }
}

impl SandboxRecord {
    pub fn new(spec: &SandboxSpec, network_namespace: String, ip: String, created_unix_ns: i64) -> Self {
        Self {
            uid: spec.pod.uid.clone(),
            namespace: spec.pod.namespace.clone(),
            name: spec.pod.name.clone(),
            attempt: spec.attempt,
            hostname: spec.hostname.clone(),
            network_namespace,
            ip,
            created_unix_ns,
            stopped: false,
        }
    }

    pub fn identity(&self) -> PodIdentity {
        PodIdentity { uid: self.uid.clone(), namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl ContainerRecord {
    pub fn new(sandbox: &SandboxSpec, known: &SandboxRecord, spec: &ContainerSpec, created_unix_ns: i64) -> Self {
        let id = |id: Option<i64>| id.and_then(|i| u32::try_from(i).ok());
        let mount = |m: &crate::runtime::Mount| MountRecord {
            host_path: m.host_path.clone(),
            container_path: m.container_path.clone(),
            read_only: m.read_only,
        };
        Self {
            name: spec.name.clone(),
            attempt: spec.attempt,
            image: spec.image.clone(),
            command: spec.command.iter().chain(&spec.args).cloned().collect(),
            working_dir: spec.working_dir.clone(),
            env: [("PATH".to_owned(), PATH.to_owned())]
                .into_iter()
                .filter(|_| !spec.env.iter().any(|(name, _)| name == "PATH"))
                .chain(spec.env.iter().cloned())
                .collect(),
            no_new_privileges: spec.no_new_privileges,
            mounts: spec.mounts.iter().map(mount).collect(),
            hostname: known.hostname.clone(),
            network_namespace: known.network_namespace.clone(),
            log_file: sandbox.log_dir.join(&spec.log_path),
            user: id(spec.run_as_user),
            group: id(spec.run_as_group),
            supplemental_groups: spec.supplemental_groups.iter().filter_map(|g| u32::try_from(*g).ok()).collect(),
            read_only_root: spec.read_only_root,
            created_unix_ns,
        }
    }
}

pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

pub fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, serde_json::to_vec(value)?)?;
    fs::rename(part, path)
}

/// The folders in a folder, sorted.
pub fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.is_dir()).collect();
    found.sort();
    found
}
