//! THE binary: every part of a Keelstone cluster is a subcommand of it.
//!
//! A wrong flag, or a file that cannot be read, is one clear line and exit code 2; anything else that fails
//! is exit code 1.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // the outermost leaf

mod balancer;
mod commands;
mod etcd;
mod kubeconfig;
mod pki;
mod probe;
mod up;

use std::{future::Future, process::ExitCode};

use clap::{Parser, Subcommand};

/// A Kubernetes-compatible control plane with a store of its own.
#[derive(Parser)]
#[command(name = "keelstone", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a whole cluster on this machine, or what is missing of it, and returns when it is ready.
    Up(up::UpArguments),
    /// Stops the cluster that `up` started; its data stays.
    Down(up::ClusterArguments),
    /// Says what runs of the cluster.
    Status(up::ClusterArguments),
    /// Kills parts of the cluster with SIGKILL (`m1`, `w2`, `w2-containerd`); `up` starts them again.
    Kill(up::KillArguments),
    /// Runs a master: store member, API server, scheduler and controllers.
    Server(Box<commands::server::ServerArguments>),
    /// Runs a member of the store alone, in etcd's place: with etcd's flags. `store help`: snapshots and backups.
    #[command(disable_help_flag = true)]
    Store(commands::store::StoreArguments),
    /// Runs an API server alone, on a store of its own kind or on an etcd.
    Apiserver(Box<commands::apiserver::ApiserverArguments>),
    /// Runs the scheduler alone.
    Scheduler(commands::leading::LeadingArguments),
    /// Runs the controllers alone.
    ControllerManager(commands::leading::LeadingArguments),
    /// Runs a node agent.
    Agent(Box<commands::agent::AgentArguments>),
    /// Runs the TCP balancer of a one-machine cluster.
    Balancer(commands::balancer::BalancerArguments),
    /// Supervises one container of the `process` runtime; started by the agent.
    #[command(hide = true)]
    ContainerShim { dir: std::path::PathBuf },
}

/// Why a command ended; told in one line.
pub enum Failure {
    /// What was asked for cannot be: exit code 2.
    Usage(String),
    /// It was tried and failed: exit code 1.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self::Failed(text)
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let program = arguments.next().unwrap_or_default();
    if std::path::Path::new(&program).file_name().is_some_and(|name| name == "etcd") {
        // A link of this name stands in for etcd in unit files, scripts and test beds.
        return etcd::run(&arguments.collect::<Vec<_>>());
    }
    let command = Arguments::parse().command;
    if let Command::Store(store) = &command {
        if !store.names_a_tool() {
            return etcd::run(&store.arguments);
        }
    }
    if let Command::ContainerShim { dir } = &command {
        // Before any thread is started: the shim makes namespaces.
        return ExitCode::from(u8::try_from(keelstone_agent::runtime::process::shim_main(dir)).unwrap_or(1));
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("KEELSTONE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,openraft=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let ended = match command {
        Command::Up(arguments) => run(up::up(arguments)),
        Command::Down(arguments) => up::down(&arguments),
        Command::Status(arguments) => up::status(&arguments),
        Command::Kill(arguments) => up::kill(&arguments),
        Command::Server(arguments) => serve(commands::server::run(*arguments)),
        Command::Store(arguments) => run(commands::store::run_tool(arguments)),
        Command::Apiserver(arguments) => serve(commands::apiserver::run(*arguments)),
        Command::Scheduler(arguments) => serve(commands::leading::scheduler(arguments)),
        Command::ControllerManager(arguments) => serve(commands::leading::controllers(arguments)),
        Command::Agent(arguments) => serve(commands::agent::run(*arguments)),
        Command::Balancer(arguments) => serve(commands::balancer::run(arguments)),
        Command::ContainerShim { .. } => Ok(()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            eprintln!("keelstone: {text}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("keelstone: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what lives long: memory that is not used goes back to the system.
fn serve(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    keelstone_allocator::purge_in_background();
    run(command)
}

fn run(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(64).build()?;
    let ended = runtime.block_on(command);
    // Not waited for: a blocked thread may wait for a container that outlives this process.
    runtime.shutdown_background();
    ended
}
