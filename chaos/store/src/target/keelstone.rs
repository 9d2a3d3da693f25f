use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use keelstone_chaos_bed::{Host, Launch, Outcome};

use super::{client_address, files_in, initial_cluster, program, Part, Target};

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
        let data = host.data.to_string_lossy().into_owned();
        let arguments = [
            "store",
            "--name",
            &host.name,
            "--data-dir",
            &data,
            "--initial-cluster",
            &initial_cluster(members),
            "--listen-client",
            &client_address(host),
        ];
        Launch { program: self.program.clone(), arguments: arguments.map(str::to_owned).to_vec() }
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
