use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use keelstone_chaos_bed::{Host, Launch, Outcome};

use super::{files_in, member_flags, program, Part, Target};

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

    fn launch(&self, host: &Host, members: &[Arc<Host>], first: bool) -> Launch {
        let arguments = std::iter::once("store".to_owned()).chain(member_flags(host, members, first)).collect();
        Launch { program: self.program.clone(), arguments }
    }

    fn programs(&self) -> Vec<PathBuf> {
        std::iter::once(self.program.clone()).chain(self.other.clone()).collect()
    }

    fn files(&self, host: &Host, part: Part) -> Vec<PathBuf> {
        match part {
            Part::Log => files_in(&host.data.join("wal"), ""),
            Part::State => files_in(&host.data.join("engine"), "sst"),
            Part::Snapshot => manifests(&host.data.join("engine")),
        }
    }

    fn other_build(&self) -> Option<Arc<dyn Target>> {
        let other = self.other.clone()?;
        Some(Arc::new(Self { program: other, other: Some(self.program.clone()) }))
    }
}

/// Which files make up the state that RocksDB starts from.
pub fn manifests(engine: &Path) -> Vec<PathBuf> {
    let is_manifest = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("MANIFEST"));
    files_in(engine, "").into_iter().filter(is_manifest).collect()
}
