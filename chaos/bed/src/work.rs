//! The folder of one run for what is not kept (disk images, mount points), and the removal of what a run that was
//! killed left behind.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Outcome;

/// A run's folder, named `<pid>-<start time of the process in ticks>`; removed when this is dropped.
#[derive(Debug)]
pub struct Work(PathBuf);

impl Work {
    /// Makes the folder of this process below `root`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn make(root: &Path) -> Outcome<Self> {
        let pid = std::process::id();
        let folder = root.join(format!("{pid}-{}", start_ticks(pid).unwrap_or(0)));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// The folder that [`Work::make`] made before this process was replaced.
    pub fn taken_over(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Keeps the folder: the process is replaced by one that takes it over.
    pub fn hand_over(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Removes the folders below `root` whose process has ended; how many there were. A pid that was given to another
/// process since is told apart by its start time.
pub fn sweep(root: &Path) -> usize {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let left = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((pid, started)) = name.split_once('-') else { return false };
        let (Ok(pid), Ok(started)) = (pid.parse::<u32>(), started.parse::<u64>()) else { return false };
        start_ticks(pid) != Some(started)
    });
    left.filter(|entry| fs::remove_dir_all(entry.path()).is_ok()).count()
}

fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_run_left_is_removed_and_a_living_one_keeps_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let own = Work::make(root.path()).unwrap();
        // Our pid with another start time: the pid was recycled. And a folder that is none of ours.
        let recycled = root.path().join(format!("{}-1", std::process::id()));
        let strange = root.path().join("keep");
        for folder in [&recycled, &strange, &recycled.join("deeper")] {
            fs::create_dir_all(folder).unwrap();
        }
        assert_eq!(sweep(root.path()), 1);
        assert!(own.path().is_dir() && strange.is_dir() && !recycled.exists());
        let path = own.path().to_owned();
        drop(own);
        assert!(!path.exists());
    }
}
