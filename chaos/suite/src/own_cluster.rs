//! A cluster for one run: started in a temporary folder, always stopped, its folder always removed.

use std::{future::Future, path::Path};

use crate::{cluster::Cluster, failure::Outcome, interrupt::until_interrupted};

/// Lines of each log that are shown when a run fails.
const LOG_LINES: usize = 12;

/// Starts a cluster, runs `work` on it, stops it.
pub async fn with_cluster<T, F>(keelstone: &Path, runtime: &str, work: impl FnOnce(Cluster) -> F) -> Outcome<T>
where
    F: Future<Output = Outcome<T>>,
{
    with_cluster_of(keelstone, runtime, &[], work).await
}

/// The same with more flags for `keelstone up`.
pub async fn with_cluster_of<T, F>(
    keelstone: &Path,
    runtime: &str,
    flags: &[&str],
    work: impl FnOnce(Cluster) -> F,
) -> Outcome<T>
where
    F: Future<Output = Outcome<T>>,
{
    let folder = tempfile::Builder::new().prefix("keelstone-").tempdir()?;
    let ended = until_interrupted(async {
        let arguments = [&["--port", "0", "--runtime", runtime], flags].concat();
        let cluster = Cluster::start(folder.path(), keelstone, &arguments).await?;
        work(cluster).await
    })
    .await;
    if ended.is_err() {
        show_logs(folder.path());
    }
    if let Ok(cluster) = Cluster::open(folder.path(), keelstone) {
        cluster.down().await;
    }
    ended
}

/// What the parts said last that was not mere information.
fn show_logs(dir: &Path) {
    let entries = std::fs::read_dir(dir.join("logs")).into_iter().flatten().flatten();
    for path in entries.map(|e| e.path()) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let telling = |line: &&str| !line.contains(" INFO ") && !line.contains(" DEBUG ") && !line.trim().is_empty();
        let lines: Vec<&str> = text.lines().filter(telling).collect();
        eprintln!("-- {}: {} lines, {} of note", path.display(), text.lines().count(), lines.len());
        for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
            eprintln!("   {line}");
        }
    }
}
