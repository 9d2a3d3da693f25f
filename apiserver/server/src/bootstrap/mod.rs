//! What every cluster has from its first start on. Every master looks after it, so all steps may be repeated
//! and may meet another master doing the same.

mod caller;
mod endpoints;
mod identity;
mod objects;

use std::sync::{atomic::Ordering, Arc};

use keelstone_access::User;
use keelstone_machinery::status::ApiResult;
use serde_json::Value;
use tokio::sync::watch;

pub use caller::ApiCaller;

use crate::{
    allocate,
    constants::{BOOTSTRAP_RETRY, IDENTITY_INTERVAL, REPAIR_INTERVAL},
    local::LocalService,
    state::State,
};

/// Creates what must exist, then keeps it so until `stop` says true.
pub async fn run(state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let caller = ApiCaller::new(LocalService::new(state.clone(), User::api_server()));
    let work = async {
        first_start(&state, &caller).await;
        tokio::join!(repair_loop(&state, &caller), identity_loop(&state, &caller));
    };
    tokio::select! {
        biased;
        _ = stop.wait_for(|stopping| *stopping) => {}
        () = work => {}
    }
}

async fn first_start(state: &State, caller: &ApiCaller) {
    loop {
        match objects::ensure(caller, state.config.service_cidr).await {
            Ok(()) => break,
            Err(error) => tracing::info!(%error, "the cluster's first objects cannot be written yet"),
        }
        tokio::time::sleep(BOOTSTRAP_RETRY).await;
    }
    state.bootstrapped.store(true, Ordering::Release);
    tracing::info!(name = %state.config.name, "the cluster's first objects are there");
}

async fn repair_loop(state: &State, caller: &ApiCaller) {
    loop {
        if let Err(error) = repair(state, caller).await {
            tracing::info!(%error, "repair put off");
        }
        tokio::time::sleep(REPAIR_INTERVAL).await;
        if let Err(error) = objects::ensure(caller, state.config.service_cidr).await {
            tracing::info!(%error, "the cluster's first objects cannot be checked now");
        }
    }
}

async fn repair(state: &State, caller: &ApiCaller) -> ApiResult<()> {
    let now = state.env.unix_time_s();
    let list = caller.read("/api/v1/services").await?.unwrap_or(Value::Null);
    let services: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
    allocate::repair(&state.pools, &services, now).await
}

async fn identity_loop(state: &State, caller: &ApiCaller) {
    let mut masters = identity::Masters::new(state);
    loop {
        if let Err(error) = masters.renew(caller).await {
            tracing::info!(%error, "identity lease not renewed");
        }
        match masters.live(caller).await {
            Ok(live) => {
                if let Err(error) = endpoints::publish(caller, &live).await {
                    tracing::info!(%error, "endpoints of the kubernetes service not written");
                }
            }
            Err(error) => tracing::info!(%error, "identity leases cannot be read"),
        }
        tokio::time::sleep(IDENTITY_INTERVAL).await;
    }
}
