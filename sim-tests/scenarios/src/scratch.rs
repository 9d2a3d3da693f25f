#![allow(clippy::disallowed_methods, reason = "the one place where a run meets the real file system")]

use std::{fs, io, path::PathBuf};

/// A folder of its own on the real file system, as the working folder of this process, removed at the end.
/// Agents lay out pods' volumes with links and modes, which the simulated disk does not have; their paths are
/// relative, so that they read the same in every run. In memory, where the system has such a place.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn enter() -> io::Result<Self> {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = parent.join(format!("keelstone-sim-{}", std::process::id()));
        // What a killed process of the same id left.
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&path)?;
        std::env::set_current_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that cannot be removed is left to the system's cleaning of temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
