//! The task that flushes the state machine and then purges the log, so that a restart replays little and the
//! log stays small.

use std::{sync::atomic::Ordering, sync::Arc, time::Duration};

use keelstone_env::fault::{self, Point};
use openraft::async_runtime::WatchReceiver;

use crate::core::Core;

/// How long openraft may take to note a snapshot, which takes no time to build.
const SNAPSHOT_NOTE_TIME_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn run(core: Arc<Core>) {
    loop {
        tokio::select! {
            biased;
            () = core.progress.flush.notified() => {}
            () = tokio::time::sleep(core.config.limits.flush_interval) => {}
        }
        if let Err(error) = round(&core).await {
            tracing::error!(error, "flushing the state machine failed");
        }
    }
}

async fn round(core: &Core) -> Result<(), String> {
    let applied = *core.progress.applied.borrow();
    if applied == 0 {
        return Ok(());
    }
    core.progress.unflushed_bytes.store(0, Ordering::Relaxed);
    fault::pause(Point::Flush).await;
    let mvcc = Arc::clone(&core.mvcc);
    let durable = core.env.offload(move || mvcc.flush()).await.map_err(|error| error.to_string())?;
    purge(core, durable).await
}

/// Purges the log up to `durable`, less what is kept for lagging followers.
async fn purge(core: &Core, durable: u64) -> Result<(), String> {
    let state = core.wal.state();
    let Some(upto) = durable.checked_sub(core.config.limits.kept_entries) else { return Ok(()) };
    if state.first.is_none_or(|first| upto <= first) {
        return Ok(());
    }
    // openraft purges only what a snapshot covers. Ours is a view of the live state: asking for one costs
    // nothing and tells openraft how far that state reaches.
    fault::pause(Point::Purge).await;
    core.raft.trigger().snapshot().await.map_err(|error| error.to_string())?;
    let mut metrics = core.raft.metrics();
    let noted = async {
        while metrics.borrow_watched().snapshot.is_none_or(|snapshot| snapshot.index() < upto) {
            if metrics.changed().await.is_err() {
                return false;
            }
        }
        true
    };
    match tokio::time::timeout(SNAPSHOT_NOTE_TIME_MAX, noted).await {
        Ok(true) => core.raft.trigger().purge_log(upto).await.map_err(|error| error.to_string()),
        // Stopped, or busy installing a snapshot: the next round tries again.
        Ok(false) | Err(_) => Ok(()),
    }
}
