//! The node object and its lease: what tells the control plane that the node is alive.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time},
    },
    jiff::Timestamp,
};
use keelstone_client::{Object, Patch, PatchOptions};
use keelstone_env::fault::{self, Point};
use serde_json::json;

use crate::agent::Shared;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const RETRY: Duration = Duration::from_millis(500);

/// Registers the node, then tells its status at least once in each period.
pub async fn report_forever(shared: Arc<Shared>) {
    loop {
        let period = shared.config.status_period;
        match report(&shared).await {
            Ok(()) => tokio::time::sleep(period).await,
            Err(error) => {
                tracing::debug!(%error, "node status not written");
                tokio::time::sleep(RETRY.min(period)).await;
            }
        }
    }
}

async fn report(shared: &Shared) -> keelstone_client::ClientResult<()> {
    let api = shared.client.resource::<Node>();
    let name = shared.config.node_name.clone();
    let node = match api.get_opt(&name).await? {
        Some(node) => node,
        None => match api.create(&new_node(shared)).await {
            Err(error) if error.is_already_exists() => api.get(&name).await?,
            created => created?,
        },
    };
    shared.set_node(node.clone());
    let runtime = shared.runtime.version().await;
    let status = node_status(shared, &node, runtime.as_deref().map_err(ToString::to_string));
    let missing = shared.config.labels.iter().filter(|(k, v)| node.label(k) != Some(v.as_str()));
    let missing: BTreeMap<_, _> = missing.collect();
    if !missing.is_empty() {
        let body = json!({"metadata": {"labels": missing}});
        api.patch(&name, &Patch::Merge(body), &PatchOptions::default()).await?;
    }
    let body = json!({"status": status});
    api.patch_status(&name, &Patch::Strategic(body), &PatchOptions::default()).await.map(drop)
}

fn new_node(shared: &Shared) -> Node {
    let config = &shared.config;
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(config.labels.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: Some(config.pod_cidr.clone()).filter(|c| !c.is_empty()),
            pod_cidrs: Some(vec![config.pod_cidr.clone()]).filter(|_| !config.pod_cidr.is_empty()),
            ..NodeSpec::default()
        }),
        status: None,
    }
}

fn now(shared: &Shared) -> Timestamp {
    let since = shared.env.wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

/// The status as the node sees itself. Conditions keep the time of their last change.
fn node_status(shared: &Shared, node: &Node, runtime: Result<&str, String>) -> NodeStatus {
    let config = &shared.config;
    let now = Time(Timestamp::from_second(now(shared).as_second()).unwrap_or_default());
    let old = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let condition = |name: &str, status: &str, reason: &str, message: &str| {
        let before = old.iter().find(|c| c.type_ == name && c.status == status);
        NodeCondition {
            type_: name.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(now.clone())),
        }
    };
    let ready = match &runtime {
        Ok(_) => condition("Ready", "True", "KubeletReady", "the agent is posting ready status"),
        Err(said) => condition("Ready", "False", "KubeletNotReady", &format!("container runtime is down: {said}")),
    };
    let conditions = vec![
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "the node has enough memory"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "the node has enough disk space"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "the node has enough process ids"),
        ready,
    ];
    let resources: BTreeMap<String, Quantity> = [
        ("cpu", format!("{}m", config.capacity.cpu_millis)),
        ("memory", format!("{}Ki", config.capacity.memory_bytes / 1024)),
        ("ephemeral-storage", format!("{}Ki", config.capacity.ephemeral_storage_bytes / 1024)),
        ("pods", config.capacity.pods.to_string()),
    ]
    .into_iter()
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .collect();
    let address = |kind: &str, address: &str| NodeAddress { type_: kind.into(), address: address.into() };
    NodeStatus {
        addresses: Some(vec![address("InternalIP", &config.address), address("Hostname", &config.node_name)]),
        capacity: Some(resources.clone()),
        allocatable: Some(resources),
        conditions: Some(conditions),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(k8s_openapi::api::core::v1::DaemonEndpoint { port: i32::from(config.port) }),
        }),
        node_info: Some(system_info(shared, runtime.unwrap_or_default())),
        ..NodeStatus::default()
    }
}

fn system_info(shared: &Shared, runtime: &str) -> NodeSystemInfo {
    let read = |path: &str| {
        let text = shared.env.disk().read(std::path::Path::new(path)).ok();
        text.map(|t| String::from_utf8_lossy(&t).trim().to_owned()).unwrap_or_default()
    };
    NodeSystemInfo {
        architecture: "amd64".into(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: runtime.to_owned(),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: format!("v1.37.0-keelstone.{}", env!("CARGO_PKG_VERSION")),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".into(),
        os_image: "Linux".into(),
        system_uuid: shared.config.node_name.clone(),
        ..NodeSystemInfo::default()
    }
}

/// Renews the node's lease; the control plane takes a lease that is too old for a dead node.
pub async fn renew_lease_forever(shared: Arc<Shared>) {
    loop {
        let pause = match renew(&shared).await {
            Ok(()) => shared.config.lease_renew_period,
            Err(error) => {
                tracing::debug!(%error, "node lease not renewed");
                RETRY.min(shared.config.lease_renew_period)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn renew(shared: &Shared) -> keelstone_client::ClientResult<()> {
    let name = &shared.config.node_name;
    let api = shared.client.namespaced::<Lease>(LEASE_NAMESPACE);
    let renewed = Some(MicroTime(now(shared)));
    fault::pause(Point::AgentLease).await;
    match api.get_opt(name).await? {
        Some(mut lease) => {
            let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
            spec.renew_time = renewed;
            spec.holder_identity = Some(name.clone());
            spec.lease_duration_seconds = Some(shared.config.lease_duration_s);
            api.update(&lease).await.map(drop)
        }
        None => {
            let node = shared.client.resource::<Node>().get_opt(name).await?;
            let owner = node.map(|node| OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: name.clone(),
                uid: node.uid().to_owned(),
                ..OwnerReference::default()
            });
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    namespace: Some(LEASE_NAMESPACE.into()),
                    owner_references: owner.map(|o| vec![o]),
                    ..ObjectMeta::default()
                },
                spec: Some(LeaseSpec {
                    holder_identity: Some(name.clone()),
                    lease_duration_seconds: Some(shared.config.lease_duration_s),
                    renew_time: renewed,
                    ..LeaseSpec::default()
                }),
            };
            api.create(&lease).await.map(drop)
        }
    }
}
