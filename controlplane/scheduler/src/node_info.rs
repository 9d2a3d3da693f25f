use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Taint};
use keelstone_client::Object;
use keelstone_machinery::quantity::Quantity;

use crate::{
    constants::PODS_PER_NODE,
    pod_info::{HostPort, PodInfo},
    resources::Resources,
};

/// A node with its pods, and the sums over them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeInfo {
    pub name: String,
    /// `None`: pods are assigned to a node that does not exist (any more, or yet).
    pub node: Option<Arc<Node>>,
    pub allocatable: Resources,
    pub pods_max: i64,
    pub pods: BTreeMap<String, Arc<PodInfo>>,
    pub requested: Resources,
    pub score_requested: Resources,
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

impl NodeInfo {
    pub fn new(name: &str) -> Self {
        let mut info = Self { name: name.to_owned(), ..Self::default() };
        info.set_node(None);
        info
    }

    pub fn set_node(&mut self, node: Option<Arc<Node>>) {
        let allocatable = node.as_ref().and_then(|n| n.status.as_ref()).and_then(|s| s.allocatable.as_ref());
        self.allocatable = Resources::read(allocatable);
        let pods = allocatable.and_then(|a| a.get("pods")).and_then(|q| Quantity::parse(&q.0).ok());
        self.pods_max = pods.map_or(PODS_PER_NODE, |q| q.units());
        self.node = node;
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        self.node.as_ref().and_then(|n| n.metadata.labels.as_ref()).unwrap_or(&NO_LABELS)
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.as_ref()?.label(key)
    }

    pub fn taints(&self) -> &[Taint] {
        let spec = self.node.as_ref().and_then(|n| n.spec.as_ref());
        spec.and_then(|s| s.taints.as_deref()).unwrap_or_default()
    }

    pub fn is_unschedulable(&self) -> bool {
        self.node.as_ref().and_then(|n| n.spec.as_ref()).and_then(|s| s.unschedulable).unwrap_or(false)
    }

    /// Ports of the node that its pods take.
    pub fn ports(&self) -> impl Iterator<Item = &HostPort> {
        self.pods.values().flat_map(|pod| pod.ports.iter())
    }

    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.key.clone());
        self.requested.add(&pod.requests);
        self.score_requested.add(&pod.score_requests);
        self.pods.insert(pod.key.clone(), pod);
    }

    pub fn remove_pod(&mut self, key: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(key)?;
        self.requested.subtract(&pod.requests);
        self.score_requested.subtract(&pod.score_requests);
        Some(pod)
    }
}
