use std::sync::Arc;

use keelstone_checkers::Violation;
use keelstone_engine::{MemEngine, MemOptions};
use keelstone_store_server::StoreServer;
use keelstone_world::Host;

use crate::{
    member::{self, Knobs, Members},
    simulation::Shared,
};

/// The software of a member's host.
pub async fn serve(host: Host, names: Vec<String>, knobs: Knobs, members: Members, shared: Shared) -> turmoil::Result {
    let ended = live(&host, &names, knobs, &members, &shared).await;
    let error = ended.err().unwrap_or_else(|| "it ended by itself".into());
    shared.violated(Violation::new("a member stopped", format!("{}: {error}", host.name)));
    Err(error)
}

async fn live(host: &Host, names: &[String], knobs: Knobs, members: &Members, shared: &Shared) -> turmoil::Result {
    let env = host.env();
    let options = MemOptions { self_flush_one_in: knobs.self_flush_one_in };
    let engine = MemEngine::open(env.clone(), "/data/state", options)?;
    let store = StoreServer::start(env, member::config(&host.name, names, knobs), Arc::new(engine)).await?;
    members.follow(&host.name, &store, shared).await
}
