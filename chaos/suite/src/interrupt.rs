use std::future::Future;

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
