//! A mount namespace of a host's own, in which some mount points of the run are not there.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Failure, Outcome};

const MADE_MAX: Duration = Duration::from_secs(10);

/// The namespace lives as long as this: a process that sleeps holds it.
#[derive(Debug)]
pub struct Mounts {
    holder: Child,
}

impl Mounts {
    /// # Errors
    /// `unshare` is missing, or not allowed.
    pub fn without(hidden: &[PathBuf]) -> Outcome<Self> {
        let away: Vec<String> = hidden.iter().map(|p| format!("umount -l {} 2>/dev/null", p.display())).collect();
        let mark = "echo made";
        let script = format!("{}\n{mark}\nexec sleep infinity", away.join("\n"));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder = command.spawn().map_err(|e| Failure::impossible(format!("unshare: {e}")))?;
        let told = holder.stdout.take();
        let mounts = Self { holder };
        // One line, or the end of the shell.
        let mut line = String::new();
        let begun = Instant::now();
        let mut reader = std::io::BufReader::new(told.ok_or_else(|| Failure::impossible("unshare: no output"))?);
        std::io::BufRead::read_line(&mut reader, &mut line)?;
        if line.trim() != "made" || begun.elapsed() > MADE_MAX {
            return Err(Failure::impossible("unshare --mount: no namespace was made"));
        }
        Ok(mounts)
    }

    /// What `nsenter --mount=` takes.
    pub fn path(&self) -> PathBuf {
        Path::new("/proc").join(self.holder.id().to_string()).join("ns/mnt")
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
