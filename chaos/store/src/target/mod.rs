//! What is judged: the same workloads, faults and checkers for each.

mod etcd;
mod keelstone;

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
};

use keelstone_chaos_bed::{Failure, Host, Launch, Outcome};
use keelstone_env::TlsConnector;

pub use etcd::EtcdTarget;
pub use keelstone::{manifests, KeelstoneTarget};

use crate::constants::{CLIENT_PORT, PEER_PORT};

/// Files of a stopped member, for those who damage them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Log,
    State,
    /// What the state is loaded from at a start: etcd's `.snap` files, the MANIFEST of RocksDB.
    Snapshot,
}

pub trait Target: Send + Sync + Debug {
    fn name(&self) -> &'static str;

    /// Whether the host runs a member of the store. Else it is a worker.
    fn is_member(&self, _host: &Host) -> bool {
        true
    }

    /// How clients of the store come in, if not in plain text.
    fn tls(&self) -> Option<Arc<dyn TlsConnector>> {
        None
    }

    /// How a member is started; `first` when it forms the cluster, not when it joins one that runs.
    fn launch(&self, host: &Host, members: &[Arc<Host>], first: bool) -> Launch;

    /// # Errors
    /// Why faked wall clocks do not reach it.
    fn clock_is_faked(&self) -> Result<(), String> {
        Ok(())
    }

    /// Every program that it may start.
    fn programs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// # Errors
    /// Why members cannot be added or removed.
    fn members_change(&self) -> Result<(), String> {
        Ok(())
    }

    /// The files of a part, the oldest first.
    fn files(&self, host: &Host, part: Part) -> Vec<PathBuf>;

    /// Another build of the same, for a rolling upgrade.
    fn other_build(&self) -> Option<Arc<dyn Target>> {
        None
    }
}

/// # Errors
/// [`Failure::Impossible`]: there is no such target, or its program is not there.
pub fn by_name(name: &str, program: Option<&Path>, other: Option<&Path>) -> Outcome<Arc<dyn Target>> {
    match name {
        "keelstone" => Ok(Arc::new(KeelstoneTarget::new(program, other)?)),
        "etcd" => Ok(Arc::new(EtcdTarget::new(program, other)?)),
        other => Err(Failure::impossible(format!("unknown target {other:?}: keelstone or etcd"))),
    }
}

/// The flags that a member of either store is started with: ours takes etcd's.
fn member_flags(host: &Host, members: &[Arc<Host>], first: bool) -> Vec<String> {
    let state = if first { "new" } else { "existing" };
    let client_url = format!("http://{}", client_address(host));
    let flags = [
        ("--name", host.name.clone()),
        ("--data-dir", host.data.to_string_lossy().into_owned()),
        ("--listen-peer-urls", peer_url(host)),
        ("--initial-advertise-peer-urls", peer_url(host)),
        ("--listen-client-urls", client_url.clone()),
        ("--advertise-client-urls", client_url),
        ("--initial-cluster", initial_cluster(members)),
        ("--initial-cluster-state", state.to_owned()),
    ];
    flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

/// `a=http://host:port,...`, as both want it.
fn initial_cluster(members: &[Arc<Host>]) -> String {
    let each = members.iter().map(|h| format!("{}={}", h.name, peer_url(h)));
    each.collect::<Vec<_>>().join(",")
}

pub fn peer_url(host: &Host) -> String {
    format!("http://{}:{PEER_PORT}", host.address)
}

pub fn client_address(host: &Host) -> String {
    format!("{}:{CLIENT_PORT}", host.address)
}

/// The files below `folder` whose name has this extension (any, if empty), by name.
pub fn files_in(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let matches = |path: &PathBuf| extension.is_empty() || path.extension().is_some_and(|e| e == extension);
    let mut files: Vec<PathBuf> = entries.filter(|p| p.is_file() && matches(p)).collect();
    files.sort();
    files
}

pub fn program(given: Option<&Path>, looked_up: impl FnOnce() -> Option<PathBuf>, hint: &str) -> Outcome<PathBuf> {
    let path = given.map(Path::to_owned).or_else(looked_up);
    match path.as_ref().map(|p| p.canonicalize()) {
        Some(Ok(path)) if path.is_file() => Ok(path),
        _ => Err(Failure::impossible(format!("{} is not a program; {hint}", path.unwrap_or_default().display()))),
    }
}
