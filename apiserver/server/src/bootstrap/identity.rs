use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use keelstone_env::Env;
use keelstone_machinery::{meta, status::ApiResult};
use serde_json::{json, Value};
use tokio::time::Instant;

use super::ApiCaller;
use crate::{constants::IDENTITY_TTL_S, state::State};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const LABEL: &str = "apiserver.kubernetes.io/identity";
const LABEL_VALUE: &str = "kube-apiserver";
/// Where the master listens, as `ip:port`.
const ADDRESS: &str = "keelstone.io/advertise-address";

/// A master's address in the `kubernetes` Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MasterAddress {
    pub port: u16,
    pub ip: Ipv4Addr,
}

/// Says through a Lease that this master lives, and watches the others' leases. Whether one is still renewed
/// is judged by this master's own monotonic clock, so wall clocks may differ.
pub struct Masters {
    env: Env,
    name: String,
    address: String,
    /// Lease name: the renewal last seen, and when it was first seen.
    seen: BTreeMap<String, (String, Instant)>,
}

impl Masters {
    pub fn new(state: &State) -> Self {
        let config = &state.config;
        Self {
            env: state.env.clone(),
            name: config.name.clone(),
            address: format!("{}:{}", config.advertise_host, config.advertise_port),
            seen: BTreeMap::new(),
        }
    }

    /// Renews this master's lease, and makes it if it is not there.
    ///
    /// # Errors
    /// The API's.
    pub async fn renew(&self, caller: &ApiCaller) -> ApiResult<()> {
        let name = format!("apiserver-{}", self.name);
        let path = format!("{LEASES}/{name}");
        let renewed = meta::now_micro_time(self.env.wall_now());
        let Some(mut lease) = caller.read(&path).await? else {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {
                    "name": name, "namespace": "kube-system",
                    "labels": {LABEL: LABEL_VALUE, "kubernetes.io/hostname": self.name},
                    "annotations": {ADDRESS: self.address},
                },
                "spec": {"holderIdentity": name, "leaseDurationSeconds": IDENTITY_TTL_S, "renewTime": renewed},
            });
            return caller.create(LEASES, &lease).await.map(|_| ());
        };
        lease["spec"]["renewTime"] = json!(renewed);
        lease["spec"]["leaseDurationSeconds"] = json!(IDENTITY_TTL_S);
        meta::set_annotation(&mut lease, ADDRESS, Some(&self.address));
        meta::set_label(&mut lease, LABEL, Some(LABEL_VALUE));
        caller.update(&path, &lease).await.map(|_| ())
    }

    /// The masters whose leases are being renewed, this one among them, in order.
    ///
    /// # Errors
    /// The API's.
    pub async fn live(&mut self, caller: &ApiCaller) -> ApiResult<Vec<MasterAddress>> {
        let list =
            caller.read(&format!("{LEASES}?labelSelector={LABEL}%3D{LABEL_VALUE}")).await?.unwrap_or(Value::Null);
        let leases: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
        let now = self.env.now();
        self.seen.retain(|name, _| leases.iter().any(|l| meta::name(l) == name));
        let mut live = Vec::new();
        for lease in leases {
            let renewed = lease.pointer("/spec/renewTime").and_then(Value::as_str).unwrap_or_default();
            let seen = self.seen.entry(meta::name(lease).to_owned()).or_insert_with(|| (renewed.to_owned(), now));
            if seen.0 != renewed {
                *seen = (renewed.to_owned(), now);
            }
            let ttl = Duration::from_secs(u64::try_from(IDENTITY_TTL_S).unwrap_or(0));
            if now - seen.1 <= ttl {
                live.extend(meta::annotation(lease, ADDRESS).and_then(parse_address));
            }
        }
        live.sort();
        live.dedup();
        Ok(live)
    }
}

fn parse_address(text: &str) -> Option<MasterAddress> {
    let (ip, port) = text.rsplit_once(':')?;
    Some(MasterAddress { ip: ip.parse().ok()?, port: port.parse().ok()? })
}
