//! Short commands of the system: ip, nft, mount.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{Failure, Outcome};

/// Runs a command to its end; its output.
///
/// # Errors
/// [`Failure::Impossible`] with the command and what it said.
pub fn shell(words: &[&str]) -> Outcome<String> {
    tool(words, None)
}

/// The same, with a text for its standard input.
///
/// # Errors
/// As [`shell`].
pub fn tool(words: &[&str], input: Option<&str>) -> Outcome<String> {
    let failed = |said: String| Failure::impossible(format!("{}: {said}", words.join(" ")));
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(format!("{} {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
}

/// Where a program is, looked up as a shell of root does.
pub fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"]);
    let mut files = folders.map(|folder| PathBuf::from(folder).join(program));
    files.find(|file| file.is_file())
}
