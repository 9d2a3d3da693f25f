//! Figures. Nothing here asserts anything about time.

mod api;
mod failover;
mod losses;
mod up;

use std::{path::Path, time::Duration};

pub use api::api;
pub use failover::failover;
pub use losses::losses;
pub use up::up;

use crate::{failure::Outcome, own_cluster::with_cluster};

const ALL_PODS: u32 = 5_000;
const ALL_ROUNDS: u32 = 20;

/// All figures on a cluster of its own.
pub async fn all(keelstone: &Path, runtime: &str) -> Outcome<()> {
    with_cluster(keelstone, runtime, |cluster| async move {
        up::idle(&cluster).await?;
        api(cluster.clone(), ALL_PODS).await?;
        failover(cluster, ALL_ROUNDS).await
    })
    .await
}

/// The middle one; zero if there are none.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
