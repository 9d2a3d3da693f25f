//! The scheduler and the controllers as processes of their own; they act while they hold their lease.

use std::path::{Path, PathBuf};

use clap::Args;
use keelstone_client::{CancellationToken, Client, LeaderConfig};
use keelstone_controllers::ControllersConfig;
use keelstone_env::Env;
use keelstone_runtime::run_when_leader;
use keelstone_scheduler::SchedulerConfig;

use super::{asked_to_stop, credentials};
use crate::Failure;

#[derive(Args)]
pub struct LeadingArguments {
    /// Names the masters and holds the component's certificate.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Tells candidates apart; the host's name if it is not given.
    #[arg(long)]
    name: Option<String>,
}

/// A client and the part of an election that all candidates share.
fn candidate(arguments: &LeadingArguments, component: &str) -> Result<(Client, LeaderConfig), Failure> {
    let env = Env::os();
    let client = credentials(&arguments.kubeconfig)?.client(&env)?.named(component);
    let host = super::read(Path::new("/proc/sys/kernel/hostname"))?.trim().to_owned();
    let name = arguments.name.clone().unwrap_or(host);
    let identity = format!("{name}_{}", env.random().uuid());
    Ok((client, LeaderConfig::new("kube-system", component, &identity)))
}

pub async fn scheduler(arguments: LeadingArguments) -> Result<(), Failure> {
    let (client, config) = candidate(&arguments, "kube-scheduler")?;
    let stop = CancellationToken::new();
    let work = run_when_leader(&client, config, &stop, |context| {
        keelstone_scheduler::run(context, SchedulerConfig::default())
    });
    until_stopped(&stop, work).await
}

pub async fn controllers(arguments: LeadingArguments) -> Result<(), Failure> {
    let (client, config) = candidate(&arguments, "kube-controller-manager")?;
    let root_ca = credentials(&arguments.kubeconfig)?.ca;
    let stop = CancellationToken::new();
    let work = run_when_leader(&client, config, &stop, |context| {
        keelstone_controllers::run(
            context,
            ControllersConfig { root_ca: root_ca.clone(), ..ControllersConfig::default() },
        )
    });
    until_stopped(&stop, work).await
}

/// Works until a signal comes, then gives the lease back.
async fn until_stopped(stop: &CancellationToken, work: impl std::future::Future<Output = ()>) -> Result<(), Failure> {
    let signal = async {
        let asked = asked_to_stop().await;
        stop.cancel();
        asked
    };
    let ((), asked) = tokio::join!(work, signal);
    asked
}
