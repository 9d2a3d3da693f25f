use keelstone_machinery::{meta, status::ApiResult};
use serde_json::Value;

use super::{
    pool::Pool,
    service::{holds, node_ports},
    Owner, Pools,
};
use crate::constants::ALLOCATION_GRACE_S;

/// Makes allocations and Services agree again: takes what a Service shows and nobody holds, gives back what is
/// held for a Service that does not show it. `services` must be a consistent list that was read after `now`.
///
/// # Errors
/// The store's.
pub async fn repair(pools: &Pools, services: &[&Value], now_unix_s: i64) -> ApiResult<()> {
    repair_pool(&pools.addresses, false, services, now_unix_s).await?;
    repair_pool(&pools.ports, true, services, now_unix_s).await
}

async fn repair_pool(pool: &Pool, port: bool, services: &[&Value], now_unix_s: i64) -> ApiResult<()> {
    let taken = pool.taken().await?;
    for service in services {
        for item in items(service, port).into_iter().filter(|item| pool.contains(item)) {
            if !taken.contains_key(&item) {
                tracing::info!(%item, service = meta::name(service), "allocation was missing");
                pool.take(&item, &Owner::of(service, now_unix_s)).await?;
            }
        }
    }
    for item in taken.keys() {
        // A young allocation may belong to a Service that is being written just now.
        let orphan = |owner: Option<&Owner>| {
            let used = services.iter().any(|s| holds(s, port, item) && owner.is_none_or(|o| o.is(s)));
            let young = owner.is_some_and(|o| now_unix_s - o.since_unix_s < ALLOCATION_GRACE_S);
            !used && !young
        };
        if orphan(taken[item].as_ref()) {
            tracing::info!(%item, "allocation belongs to no service: given back");
            pool.give_back(item, &orphan).await?;
        }
    }
    Ok(())
}

fn items(service: &Value, port: bool) -> Vec<String> {
    if port {
        return node_ports(service).iter().map(ToString::to_string).collect();
    }
    let address = service.pointer("/spec/clusterIP").and_then(Value::as_str).unwrap_or_default();
    if address.is_empty() || address == "None" {
        return Vec::new();
    }
    vec![address.to_owned()]
}
