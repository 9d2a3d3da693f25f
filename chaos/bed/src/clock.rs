//! Wall clocks that lie, by libfaketime: a preloaded library that answers in the C library's place and reads the offset
//! from a file. Programs that do not ask the C library (Go's) are not reached. The monotonic clock stays true: the
//! library cannot change it without breaking timed waits.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{constants::POLL, Outcome};

/// A program says its version within this time, also on a busy machine.
const STARTS_MAX: Duration = Duration::from_secs(5);

const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The library, if the Debian package `faketime` is installed.
pub fn library() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
    folders.iter().map(|folder| Path::new(folder).join(LIBRARY)).find(|file| file.is_file())
}

/// The environment of a process whose wall clock is `file`.
pub fn environment(library: &Path, file: &Path) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    vec![
        ("LD_PRELOAD".into(), text(library)),
        ("FAKETIME_TIMESTAMP_FILE".into(), text(file)),
        ("FAKETIME_CACHE_DURATION".into(), "1".into()),
        ("DONT_FAKE_MONOTONIC".into(), "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
    ]
}

/// Whether the program starts beneath the library. (jemalloc as the C library's malloc and libfaketime wait for each other
/// at the start of the process: then its clocks stay true.)
pub fn reaches(program: &Path) -> bool {
    let Some(library) = library() else { return false };
    let mut command = Command::new(program);
    command.arg("--version").env("LD_PRELOAD", library).stdin(Stdio::null()).stdout(Stdio::null());
    let Ok(mut child) = command.stderr(Stdio::null()).spawn() else { return false };
    let begun = Instant::now();
    while begun.elapsed() < STARTS_MAX {
        if let Ok(Some(status)) = child.try_wait() {
            return status.success();
        }
        std::thread::sleep(POLL);
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// The clock is `offset_s` from the true one; seen by the process within a second.
///
/// # Errors
/// The file cannot be written.
pub fn set(file: &Path, offset_s: f64) -> Outcome<()> {
    Ok(std::fs::write(file, format!("{offset_s:+.3}\n"))?)
}

/// The clock runs `rate` times as fast as the true one from now on.
///
/// # Errors
/// As [`set`].
pub fn drift(file: &Path, rate: f64) -> Outcome<()> {
    Ok(std::fs::write(file, format!("+0 x{rate:.3}\n"))?)
}
