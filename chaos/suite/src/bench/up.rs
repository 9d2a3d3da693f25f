use std::{
    path::Path,
    time::{Duration, Instant},
};

use tokio::process::Command;

use crate::{
    cluster::Cluster,
    constants::SETTLE_MAX,
    failure::Outcome,
    kubectl::{self, Kubectl},
    processes::resident_bytes,
    report::eventually,
};

/// A master is idle after so long.
const IDLE_AFTER: Duration = Duration::from_secs(30);

/// Times the start of a new cluster up to the first `kubectl get nodes`, and weighs its idle masters.
pub async fn up(keelstone: &Path, runtime: &str) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let program = kubectl::find_newest()?;
    let begun = Instant::now();
    let mut command = Command::new(keelstone);
    command.args(["up", "--port", "0", "--runtime", runtime, "--dir"]).arg(folder.path());
    let starting = tokio::spawn(kubectl::run(command, None, crate::constants::UP_MAX));
    let kubectl = Kubectl {
        program: program.path,
        kubeconfig: folder.path().join("kubeconfig"),
        cache: folder.path().join("cache"),
    };
    eventually("kubectl get nodes", SETTLE_MAX, || async {
        let said = kubectl.run_with(&["get", "nodes", "--request-timeout=2s"], None, Duration::from_secs(3)).await;
        said.ok().then_some(()).ok_or(said.all())
    })
    .await?;
    println!("up: the first kubectl get nodes succeeds {:.2} s after the start", begun.elapsed().as_secs_f64());
    let _ = starting.await;
    println!("up: all is Ready after {:.2} s", begun.elapsed().as_secs_f64());
    let cluster = Cluster::open(folder.path(), keelstone)?;
    let ended = idle(&cluster).await;
    cluster.down().await;
    ended
}

/// Prints the resident memory of the masters, of the balancer and of the agents when nothing happens.
pub async fn idle(cluster: &Cluster) -> Outcome<()> {
    tokio::time::sleep(IDLE_AFTER).await;
    for name in cluster.masters.iter().chain(&cluster.workers).chain([&"balancer".to_owned()]) {
        let bytes = cluster.pid(name).and_then(resident_bytes).unwrap_or(0);
        println!("memory: {name}: {:.0} MB resident, idle for {IDLE_AFTER:?}", bytes as f64 / 1e6);
    }
    Ok(())
}
