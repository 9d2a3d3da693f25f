use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec};
use keelstone_client::Object;

use crate::resources::{pod_requests, pod_requests_for_score, Resources};

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub protocol: String,
    pub port: i32,
    /// `0.0.0.0` for all addresses.
    pub address: String,
}

impl HostPort {
    /// The two cannot be taken on the same node.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let same_port = self.port == other.port && self.protocol == other.protocol;
        same_port && (self.address == other.address || self.address == ALL || other.address == ALL)
    }
}

const ALL: &str = "0.0.0.0";

/// A pod and what scheduling needs to know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PodInfo {
    /// `namespace/name`
    pub key: String,
    pub pod: Arc<Pod>,
    pub requests: Resources,
    pub score_requests: Resources,
    pub ports: Vec<HostPort>,
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        let spec = pod.spec.as_ref();
        Self {
            key: pod.key(),
            requests: spec.map(pod_requests).unwrap_or_default(),
            score_requests: spec.map(pod_requests_for_score).unwrap_or_default(),
            ports: spec.map(host_ports).unwrap_or_default(),
            pod,
        }
    }

    /// The pod's spec.
    ///
    /// # Panics
    /// Never: a missing spec reads as an empty one.
    pub fn spec(&self) -> &PodSpec {
        static EMPTY: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
        self.pod.spec.as_ref().unwrap_or_else(|| EMPTY.get_or_init(PodSpec::default))
    }

    /// The node that the pod is assigned to; empty if none.
    pub fn node(&self) -> &str {
        node_of(&self.pod)
    }

    pub fn namespace(&self) -> &str {
        self.pod.namespace()
    }

    pub fn uid(&self) -> &str {
        self.pod.uid()
    }

    pub fn priority(&self) -> i32 {
        self.spec().priority.unwrap_or(0)
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        self.pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS)
    }

    pub fn required_affinity(&self) -> &[PodAffinityTerm] {
        let affinity = self.spec().affinity.as_ref().and_then(|a| a.pod_affinity.as_ref());
        affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
    }

    pub fn required_anti_affinity(&self) -> &[PodAffinityTerm] {
        let affinity = self.spec().affinity.as_ref().and_then(|a| a.pod_anti_affinity.as_ref());
        affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
    }

    /// The same pod as if it were assigned to a node.
    pub fn assigned_to(&self, node: &str) -> Self {
        let mut pod = (*self.pod).clone();
        pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
        Self { pod: Arc::new(pod), ..self.clone() }
    }
}

/// The node that a pod is assigned to; empty if none.
pub fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

/// The pod has ended: it takes no resources any more.
pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let host_network = spec.host_network.unwrap_or(false);
    let taken = ports.filter_map(|port| {
        let number = port.host_port.filter(|p| *p > 0).or(host_network.then_some(port.container_port))?;
        let address = port.host_ip.clone().filter(|ip| !ip.is_empty() && ip != "::");
        Some(HostPort {
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            port: number,
            address: address.unwrap_or_else(|| ALL.into()),
        })
    });
    let mut taken: Vec<_> = taken.collect();
    taken.sort();
    taken.dedup();
    taken
}
