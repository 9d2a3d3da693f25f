//! Finds kubectl and runs it.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::{
    constants::KUBECTL_MAX,
    failure::{Failure, Outcome},
};

const MINORS: std::ops::RangeInclusive<u32> = 27..=33;

/// One kubectl program.
#[derive(Clone, Debug)]
pub struct Program {
    /// `1.33`, or `kubectl` if its name does not say.
    pub version: String,
    pub path: PathBuf,
}

/// All kubectl programs: `KUBECTL`, else PATH. A dispatcher on PATH (which asks `/version` first, stalls on a
/// frozen server and then runs a version of its own choice) is replaced by the `kubectl.1.NN` beside it.
pub fn find_all() -> Outcome<Vec<Program>> {
    let named = |path: PathBuf| Program { version: "kubectl".into(), path };
    if let Some(path) = std::env::var_os("KUBECTL").filter(|p| !p.is_empty()).map(PathBuf::from) {
        if path.is_file() {
            return Ok(vec![named(path)]);
        }
        return Err(Failure::impossible(format!("KUBECTL={} is not a file", path.display())));
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|dir| dir.join("kubectl")).find(|p| p.is_file());
    let found = found.and_then(|p| p.canonicalize().ok());
    let found = found.ok_or_else(|| {
        Failure::impossible("there is no kubectl on PATH; set KUBECTL=/path/to/kubectl (1.27 or newer)")
    })?;
    let beside: Vec<Program> = MINORS
        .filter_map(|minor| {
            let path = found.with_file_name(format!("kubectl.1.{minor}"));
            path.is_file().then(|| Program { version: format!("1.{minor}"), path })
        })
        .collect();
    Ok(if beside.is_empty() { vec![named(found)] } else { beside })
}

/// The newest one.
pub fn find_newest() -> Outcome<Program> {
    find_all()?.pop().ok_or_else(|| Failure::impossible("there is no kubectl"))
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    /// -1: it was killed because it did not end.
    pub code: i32,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Said {
    pub fn ok(&self) -> bool {
        self.code == 0
    }

    /// Both streams, for messages.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

/// kubectl with a kubeconfig and a discovery cache of its own.
#[derive(Clone, Debug)]
pub struct Kubectl {
    pub program: PathBuf,
    pub kubeconfig: PathBuf,
    pub cache: PathBuf,
}

impl Kubectl {
    pub async fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, None, KUBECTL_MAX).await
    }

    /// Runs with `input` on stdin; killed after `limit`.
    pub async fn run_with(&self, arguments: &[&str], input: Option<&str>, limit: Duration) -> Said {
        let mut command = self.command();
        command.args(arguments);
        run(command, input, limit).await
    }

    /// kubectl without arguments, yet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", &self.cache).env_remove("HTTPS_PROXY");
        // A dispatcher, or a kubectl of a cloud's tools, must not look elsewhere.
        command.env("HOME", self.cache.parent().unwrap_or(Path::new("/")));
        command
    }
}

/// Runs a command to its end, or kills it after `limit`.
pub async fn run(mut command: Command, input: Option<&str>, limit: Duration) -> Said {
    let begun = Instant::now();
    let failed = |text: String| Said { code: -1, out: String::new(), err: text, took: begun.elapsed() };
    command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return failed(format!("cannot be started: {error}")),
    };
    let work = async {
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // It may end without reading its input.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    match timeout(limit, work).await {
        Err(_) => failed(format!("killed after {limit:?}")),
        Ok(Err(error)) => failed(error.to_string()),
        Ok(Ok(output)) => said(&output, begun.elapsed()),
    }
}

fn said(output: &Output, took: Duration) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        took,
    }
}
