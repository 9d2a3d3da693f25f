use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use keelstone_chaos_bed::{Host, Launch, Outcome};

use super::{client_address, files_in, initial_cluster, peer_url, program, Part, Target};

/// `keelstone store`: a member without an API server.
#[derive(Clone, Debug)]
pub struct KeelstoneTarget {
    program: PathBuf,
    other: Option<PathBuf>,
}

impl KeelstoneTarget {
    /// # Errors
    /// The program is not there.
    pub fn new(given: Option<&Path>, other: Option<&Path>) -> Outcome<Self> {
        let hint = "--program names `keelstone`";
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("keelstone"));
        let other = other.map(|o| program(Some(o), || None, hint)).transpose()?;
        Ok(Self { program: program(given, beside, hint)?, other })
    }
}

impl Target for KeelstoneTarget {
    fn name(&self) -> &'static str {
        "keelstone"
    }

    fn launch(&self, host: &Host, members: &[Arc<Host>], _first: bool) -> Launch {
        let client_url = format!("http://{}", client_address(host));
        let flags = [
            ("--name", host.name.clone()),
            ("--data-dir", host.data.to_string_lossy().into_owned()),
            ("--listen-peer-urls", peer_url(host)),
            ("--initial-advertise-peer-urls", peer_url(host)),
            ("--listen-client-urls", client_url.clone()),
            ("--advertise-client-urls", client_url),
            ("--initial-cluster", initial_cluster(members)),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        Launch { program: self.program.clone(), arguments: std::iter::once("store".to_owned()).chain(flags).collect() }
    }

    fn members_change(&self) -> Result<(), String> {
        Err("this build refuses MemberAdd and MemberRemove".into())
    }

    fn files(&self, host: &Host, part: Part) -> Vec<PathBuf> {
        match part {
            Part::Log => files_in(&host.data.join("wal"), ""),
            Part::State => files_in(&host.data.join("engine"), "sst"),
        }
    }

    fn other_build(&self) -> Option<Arc<dyn Target>> {
        let other = self.other.clone()?;
        Some(Arc::new(Self { program: other, other: Some(self.program.clone()) }))
    }
}
