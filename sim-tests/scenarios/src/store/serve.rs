use std::sync::Arc;

use keelstone_engine::{MemEngine, MemOptions};
use keelstone_store_server::StoreServer;
use keelstone_world::Host;

use crate::{
    constants::TICK,
    member::{self, Members},
    plan::Plan,
    simulation::Shared,
};

/// The software of a member's host. A process that ends by itself is told to the supervisor.
pub async fn serve(
    host: Host,
    names: Vec<String>,
    plan: Arc<Plan>,
    members: Members,
    shared: Shared,
) -> turmoil::Result {
    let timing = host.clone();
    tokio::spawn(async move { timing.keep_time(TICK).await });
    let ended = live(&host, &names, &plan, &members, &shared).await;
    let error = ended.err().map_or_else(|| "it ended by itself".to_owned(), |error| error.to_string());
    shared.exited(&host.name, &error);
    std::future::pending().await
}

async fn live(host: &Host, names: &[String], plan: &Plan, members: &Members, shared: &Shared) -> turmoil::Result {
    let env = host.env();
    let options = MemOptions { self_flush_one_in: plan.knobs.self_flush_one_in };
    let engine = MemEngine::open(env.clone(), "/data/state", options)?;
    let mut config = member::config(&host.name, names, &plan.knobs);
    members.configure(&mut config);
    let store = StoreServer::start(env, config, Arc::new(engine)).await?;
    members.follow(&host.name, &store, shared).await
}
