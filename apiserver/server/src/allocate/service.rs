use std::sync::{Arc, Mutex, PoisonError};

use keelstone_machinery::{
    field::{Causes, Path},
    gvk::GroupKind,
    meta,
    status::{ApiResult, ApiStatus},
};
use keelstone_storage::{Freshness, Storage};
use serde_json::{json, Value};

use super::{
    pool::{Claim, Pool},
    Owner, Pools,
};

const HEADLESS: &str = "None";

/// What one write of a Service has taken, so that it can be given back if the write fails.
pub struct ServiceAllocation {
    pools: Pools,
    /// Where the Services themselves are stored.
    services: Arc<dyn Storage>,
    dry_run: bool,
    now_unix_s: i64,
    taken: Mutex<Vec<Taken>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    port: bool,
    item: String,
    namespace: String,
    name: String,
}

impl ServiceAllocation {
    pub fn new(pools: Pools, services: Arc<dyn Storage>, dry_run: bool, now_unix_s: i64) -> Self {
        Self { pools, services, dry_run, now_unix_s, taken: Mutex::default() }
    }

    /// Gives a new or changed Service its address and node ports.
    ///
    /// # Errors
    /// 422 for an address or port that is taken or out of range; 500 if none is left.
    pub async fn allocate(&self, service: &mut Value, old: Option<&Value>) -> ApiResult<()> {
        if !service["spec"].is_object() {
            return Ok(());
        }
        if let Some(old) = old {
            keep_allocated(service, old);
        }
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
        if kind == "ExternalName" {
            return Ok(());
        }
        self.allocate_address(service, old).await?;
        if kind == "NodePort" || kind == "LoadBalancer" {
            self.allocate_ports(service, old).await?;
        }
        Ok(())
    }

    async fn allocate_address(&self, service: &mut Value, old: Option<&Value>) -> ApiResult<()> {
        let wanted = address(service).unwrap_or_default().to_owned();
        if wanted == HEADLESS || (!wanted.is_empty() && old.and_then(address) == Some(&wanted)) {
            return Ok(());
        }
        let path = Path::new("spec").child("clusterIPs");
        let given = if wanted.is_empty() {
            self.take_any(&self.pools.addresses, false, service).await?
        } else {
            self.take(&self.pools.addresses, false, &wanted, service, &path, json!([wanted])).await?;
            wanted
        };
        service["spec"]["clusterIP"] = json!(given);
        service["spec"]["clusterIPs"] = json!([given]);
        Ok(())
    }

    async fn allocate_ports(&self, service: &mut Value, old: Option<&Value>) -> ApiResult<()> {
        let held: Vec<i64> = old.map(node_ports).unwrap_or_default();
        let count = service["spec"]["ports"].as_array().map_or(0, Vec::len);
        // TCP and UDP on the same service port share one node port.
        let mut shared: Vec<(i64, i64)> = Vec::new();
        for i in 0..count {
            let wanted = service["spec"]["ports"][i]["nodePort"].as_i64().unwrap_or(0);
            let port = service["spec"]["ports"][i]["port"].as_i64().unwrap_or(0);
            let given = if wanted != 0 {
                if !held.contains(&wanted) && !shared.iter().any(|(_, p)| *p == wanted) {
                    let path = Path::new("spec").child("ports").index(i).child("nodePort");
                    let item = wanted.to_string();
                    self.take(&self.pools.ports, true, &item, service, &path, json!(wanted)).await?;
                }
                wanted
            } else if let Some((_, given)) = shared.iter().find(|(p, _)| *p == port) {
                *given
            } else {
                self.take_any(&self.pools.ports, true, service).await?.parse().unwrap_or(0)
            };
            service["spec"]["ports"][i]["nodePort"] = json!(given);
            shared.push((port, given));
        }
        Ok(())
    }

    async fn take_any(&self, pool: &Pool, port: bool, service: &Value) -> ApiResult<String> {
        if self.dry_run {
            // Any item will do: it is shown and not kept.
            let taken = pool.taken().await?;
            return Ok(pool.first_free(&taken));
        }
        let item = pool.take_any(&Owner::of(service, self.now_unix_s)).await?;
        self.remember(port, &item, service);
        Ok(item)
    }

    async fn take(
        &self,
        pool: &Pool,
        port: bool,
        item: &str,
        service: &Value,
        path: &Path,
        shown: Value,
    ) -> ApiResult<()> {
        let refuse = |why: String| {
            let mut causes = Causes::new();
            causes.invalid(path, shown.clone(), &why);
            let kind = GroupKind { group: String::new(), kind: "Service".into() };
            Err(ApiStatus::invalid(&kind, meta::name(service), causes))
        };
        if !pool.contains(item) {
            let range = pool.range();
            return refuse(if port {
                format!("provided port is not in the valid range. The range of valid ports is {range}")
            } else {
                format!("failed to allocate IP {item}: the provided IP ({item}) is not in the valid range. The range of valid IPs is {range}")
            });
        }
        let owner = Owner::of(service, self.now_unix_s);
        let claim = if self.dry_run {
            let taken = pool.taken().await?;
            let free = taken.get(item).is_none_or(|held| held.as_ref().is_some_and(|h| h.is(service)));
            if free {
                Claim::Taken
            } else {
                Claim::HeldByOther
            }
        } else {
            pool.take(item, &owner).await?
        };
        if claim == Claim::HeldByOther {
            return refuse(if port {
                "provided port is already allocated".into()
            } else {
                format!("failed to allocate IP {item}: provided IP is already allocated")
            });
        }
        if !self.dry_run {
            self.remember(port, item, service);
        }
        Ok(())
    }

    fn remember(&self, port: bool, item: &str, service: &Value) {
        let taken = Taken {
            port,
            item: item.to_owned(),
            namespace: meta::namespace(service).to_owned(),
            name: meta::name(service).to_owned(),
        };
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
    }

    /// After the write: gives back what was taken and is not part of the outcome. `outcome` is `None` if the
    /// write failed for certain.
    pub async fn settle(&self, outcome: Option<&Value>) {
        let taken = std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner));
        for one in taken {
            let kept =
                outcome.is_some_and(|service| meta::name(service) == one.name && holds(service, one.port, &one.item));
            if !kept {
                self.give_back(&one).await;
            }
        }
    }

    /// After a change or deletion: gives back what `old` held and `new` does not.
    pub async fn release(&self, new: Option<&Value>, old: &Value) {
        let entry = |port: bool, item: String| Taken {
            port,
            item,
            namespace: meta::namespace(old).to_owned(),
            name: meta::name(old).to_owned(),
        };
        let addresses = address(old).filter(|a| !a.is_empty() && *a != HEADLESS).map(|a| entry(false, a.to_owned()));
        let ports = node_ports(old).into_iter().map(|p| entry(true, p.to_string()));
        for one in addresses.into_iter().chain(ports) {
            if !new.is_some_and(|new| holds(new, one.port, &one.item)) {
                self.give_back(&one).await;
            }
        }
    }

    async fn give_back(&self, one: &Taken) {
        // A Service of the same name may have been written meanwhile, perhaps by another master, and use it.
        match self.services.get(&format!("{}/{}", one.namespace, one.name), Freshness::Latest).await {
            Ok(service) if holds(service.value(), one.port, &one.item) => return,
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            // The repair loop finds it.
            Err(_) => return,
        }
        let pool = if one.port { &self.pools.ports } else { &self.pools.addresses };
        if let Err(error) = pool
            .give_back(&one.item, &|owner| owner.is_some_and(|o| o.namespace == one.namespace && o.name == one.name))
            .await
        {
            // The repair loop finds it.
            tracing::info!(item = %one.item, %error, "allocation not given back yet");
        }
    }
}

/// An update that leaves out what was allocated means to keep it.
fn keep_allocated(service: &mut Value, old: &Value) {
    let kind = |s: &Value| s["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let (new_kind, old_kind) = (kind(service), kind(old));
    if new_kind != "ExternalName" && old_kind != "ExternalName" && address(service).is_none_or(str::is_empty) {
        for key in ["clusterIP", "clusterIPs"] {
            if let Some(held) = old["spec"].get(key) {
                service["spec"][key] = held.clone();
            }
        }
    }
    let with_ports = ["NodePort", "LoadBalancer"];
    if !with_ports.contains(&new_kind.as_str()) || !with_ports.contains(&old_kind.as_str()) {
        return;
    }
    let protocol = |p: &Value| p["protocol"].as_str().unwrap_or("TCP").to_owned();
    let old_ports = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        let same = old_ports.iter().find(|o| o["port"] == port["port"] && protocol(o) == protocol(port));
        if let (0, Some(held)) = (port["nodePort"].as_i64().unwrap_or(0), same.and_then(|o| o["nodePort"].as_i64())) {
            port["nodePort"] = json!(held);
        }
    }
}

fn address(service: &Value) -> Option<&str> {
    service.pointer("/spec/clusterIP")?.as_str()
}

pub(super) fn node_ports(service: &Value) -> Vec<i64> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    ports.filter_map(|p| p["nodePort"].as_i64()).filter(|p| *p != 0).collect()
}

pub(super) fn holds(service: &Value, port: bool, item: &str) -> bool {
    if port {
        node_ports(service).iter().any(|p| p.to_string() == item)
    } else {
        address(service) == Some(item)
    }
}
