use std::{future::Future, sync::Arc};

use keelstone_client::{CancellationToken, Client, LeaderConfig, LeaderElector, Leadership};

/// What work under leadership is given.
#[derive(Clone)]
pub struct LeaderContext {
    /// Refuses every write once leadership is lost or about to be.
    pub client: Client,
    pub leadership: Leadership,
    /// Cancelled at a graceful stop and when leadership ends.
    pub stop: CancellationToken,
}

/// Until `stop`: stands for election and runs `work` whenever this candidate leads. `work` is dropped when
/// leadership ends and made anew with the next.
pub async fn run_when_leader<W, F>(client: &Client, config: LeaderConfig, stop: &CancellationToken, mut work: W)
where
    W: FnMut(LeaderContext) -> F,
    F: Future<Output = ()>,
{
    let mut elector = LeaderElector::new(client, config);
    let lead = |leadership: Leadership| {
        let client = client.guarded(Arc::new(leadership.clone()));
        let stop = leadership.ended().clone();
        work(LeaderContext { client, leadership, stop })
    };
    elector.run(stop, lead).await;
}
