use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use keelstone_client::Object;

use crate::{
    node_info::NodeInfo,
    pod_info::{is_terminal, PodInfo},
};

/// All nodes with the pods that are assigned to them: what a scheduling decision is made on. It is kept up to
/// date change by change, and equals one made anew from all objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    nodes: BTreeMap<String, NodeInfo>,
    /// The node of each assigned pod.
    placed: BTreeMap<String, String>,
    /// Labels of namespaces, for affinity terms that select them.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl Snapshot {
    /// The nodes that exist, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|info| info.node.is_some())
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name).filter(|info| info.node.is_some())
    }

    /// The node that a pod is (assumed to be) assigned to.
    pub fn node_of_pod(&self, key: &str) -> Option<&str> {
        self.placed.get(key).map(String::as_str)
    }

    /// The keys of all assigned (or assumed) pods.
    pub fn placed_keys(&self) -> impl Iterator<Item = String> + '_ {
        self.placed.keys().cloned()
    }

    /// An assigned (or assumed) pod.
    pub fn pod(&self, key: &str) -> Option<&Arc<PodInfo>> {
        self.nodes.get(self.placed.get(key)?)?.pods.get(key)
    }

    pub fn namespace_labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(namespace)
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.name().to_owned();
        self.nodes.entry(name).or_insert_with_key(|name| NodeInfo::new(name)).set_node(Some(node));
    }

    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.get_mut(name) {
            info.set_node(None);
        }
        self.drop_if_unused(name);
    }

    /// Takes over a pod's state: counted on its node if it has one and has not ended.
    pub fn set_pod(&mut self, pod: Arc<Pod>) {
        if is_terminal(&pod) {
            self.remove_pod(&pod.key());
        } else {
            self.place(Arc::new(PodInfo::new(pod)));
        }
    }

    /// As [`Snapshot::set_pod`], for a pod that has not ended.
    pub fn place(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.key);
        let node = pod.node().to_owned();
        if node.is_empty() {
            return;
        }
        self.placed.insert(pod.key.clone(), node.clone());
        self.nodes.entry(node).or_insert_with_key(|name| NodeInfo::new(name)).add_pod(pod);
    }

    pub fn remove_pod(&mut self, key: &str) -> Option<Arc<PodInfo>> {
        let node = self.placed.remove(key)?;
        let pod = self.nodes.get_mut(&node)?.remove_pod(key);
        self.drop_if_unused(&node);
        pod
    }

    pub fn set_namespace(&mut self, name: &str, labels: BTreeMap<String, String>) {
        self.namespaces.insert(name.to_owned(), labels);
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    fn drop_if_unused(&mut self, name: &str) {
        if self.nodes.get(name).is_some_and(|info| info.node.is_none() && info.pods.is_empty()) {
            self.nodes.remove(name);
        }
    }
}
