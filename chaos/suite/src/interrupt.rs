use std::{future::Future, path::Path, process::Command};

use tokio::signal::unix::{signal, SignalKind};

use crate::failure::{Failure, Outcome};

/// Runs until the end, or until SIGINT or SIGTERM, so that cleaning up can follow.
pub async fn until_interrupted<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        biased;
        _ = interrupt.recv() => Err(Failure::impossible("interrupted")),
        _ = terminate.recv() => Err(Failure::impossible("terminated")),
        ended = work => ended,
    }
}

/// A command that is killed when this process ends, however it ends.
pub fn ends_with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
