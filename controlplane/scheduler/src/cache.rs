use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use keelstone_client::Object;

use crate::{
    pod_info::{node_of, PodInfo},
    snapshot::Snapshot,
};

/// The snapshot, with pods that were just assigned counted on their node before the API shows it.
#[derive(Default)]
pub struct Cache {
    pub snapshot: Snapshot,
    /// Pods whose binding the API does not show yet, by key.
    assumed: BTreeMap<String, Arc<PodInfo>>,
}

impl Cache {
    /// Counts a pod on a node from now on.
    pub fn assume(&mut self, pod: &PodInfo, node: &str) {
        let assigned = Arc::new(pod.assigned_to(node));
        self.assumed.insert(pod.key.clone(), assigned.clone());
        self.snapshot.place(assigned);
    }

    /// The binding has not taken effect.
    pub fn forget(&mut self, pod: &PodInfo) {
        if self.assumed.get(&pod.key).is_some_and(|assumed| assumed.uid() == pod.uid()) {
            self.assumed.remove(&pod.key);
            self.snapshot.remove_pod(&pod.key);
        }
    }

    /// This very pod is assumed to be assigned.
    pub fn is_assumed(&self, pod: &Pod) -> bool {
        self.assumed.get(&pod.key()).is_some_and(|assumed| assumed.uid() == pod.uid())
    }

    /// Takes over a pod's state from the API.
    pub fn set_pod(&mut self, pod: &Arc<Pod>) {
        if node_of(pod).is_empty() && self.is_assumed(pod) {
            // An older state: the binding is under way.
            return;
        }
        self.assumed.remove(&pod.key());
        self.snapshot.set_pod(pod.clone());
    }

    /// The pod is gone. True if it was counted on a node.
    pub fn remove_pod(&mut self, key: &str) -> bool {
        self.assumed.remove(key);
        self.snapshot.remove_pod(key).is_some()
    }
}
