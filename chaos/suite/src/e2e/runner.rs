//! Runs the table with one version.

use std::{
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use tokio::process::Command;

use super::cases::Case;
use crate::{
    cluster::Cluster,
    constants::POLL,
    failure::Outcome,
    kubectl::{run, Program, Said},
};

const CASE_MAX: Duration = Duration::from_secs(90);
const SHOWN_CHARS: usize = 1_200;

pub struct VersionResult {
    pub version: String,
    pub passed: usize,
    pub failures: Vec<String>,
}

/// What the snippets of one version may use.
struct Bed<'a> {
    cluster: &'a Cluster,
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

pub async fn run_version(cluster: &Cluster, program: &Program, table: &[Case]) -> Outcome<VersionResult> {
    let bed = Bed::new(cluster, program)?;
    let minor: u32 = program.version.rsplit('.').next().and_then(|m| m.parse().ok()).unwrap_or(u32::MAX);
    let mut result = VersionResult { version: program.version.clone(), passed: 0, failures: Vec::new() };
    for case in table.iter().filter(|c| c.from_minor <= minor) {
        match bed.try_case(case).await {
            Ok(()) => result.passed += 1,
            Err(story) => result.failures.push(story),
        }
    }
    bed.shell(&format!("kubectl delete namespace {} --wait=false", bed.namespace())).await;
    Ok(result)
}

impl<'a> Bed<'a> {
    fn new(cluster: &'a Cluster, program: &Program) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let namespace = format!("e2e-{}", program.version.replace('.', "-"));
        std::fs::create_dir(folder.path().join("bin"))?;
        symlink(&program.path, folder.path().join("bin/kubectl"))?;
        let kubeconfig = cluster.kubeconfig()?;
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig.variant(&namespace, false))?;
        std::fs::write(folder.path().join("anonymous"), kubeconfig.variant(&namespace, true))?;
        let workers = cluster.workers.first().cloned().unwrap_or_default();
        let variables = vec![
            ("NS", namespace),
            ("WORKER", workers),
            ("KEELSTONE", cluster.keelstone.display().to_string()),
            ("RUNTIME", cluster.runtime.clone()),
        ];
        Ok(Self { cluster, folder, variables })
    }

    fn namespace(&self) -> &str {
        &self.variables[0].1
    }

    fn fill(&self, text: &str) -> String {
        self.variables.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
    }

    async fn shell(&self, script: &str) -> Said {
        let mut command = Command::new("bash");
        let folder: &Path = self.folder.path();
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.join("bin").display());
        command.arg("-c").arg(script).current_dir(folder);
        command.env("PATH", path).env("HOME", folder).env("KUBECONFIG", folder.join("kubeconfig"));
        command.env("ANONYMOUS", folder.join("anonymous")).env("DIR", &self.cluster.dir);
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        run(command, None, CASE_MAX).await
    }

    /// Runs a case until it holds or its time is over.
    async fn try_case(&self, case: &Case) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let said = self.shell(&case.script).await;
            let complaints = self.complaints(case, &said);
            if complaints.is_empty() {
                return Ok(());
            }
            if begun.elapsed() >= case.within {
                let (title, script) = (&case.title, case.script.trim());
                let shorten = |text: &str| text.chars().take(SHOWN_CHARS).collect::<String>();
                let (out, err) = (shorten(&said.out), shorten(&said.err));
                return Err(format!(
                    "-- {title}\n   {script}\n   {}\n   stdout: {out}\n   stderr: {err}",
                    complaints.join("\n   ")
                ));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn complaints(&self, case: &Case, said: &Said) -> Vec<String> {
        let mut complaints = Vec::new();
        if said.code != case.exit {
            complaints.push(format!("exit code {}, not {}", said.code, case.exit));
        }
        complaints.extend(case.expectations.iter().filter_map(|expectation| {
            let stream = if expectation.of_stderr { &said.err } else { &said.out };
            expectation.complaint(stream, &self.fill(&expectation.text))
        }));
        complaints
    }
}
