use k8s_openapi::api::core::v1::Taint;

use crate::{
    framework::{Judge, Plugin},
    node_info::NodeInfo,
    pod_info::PodInfo,
    selectors::tolerates,
    snapshot::Snapshot,
};

/// Keeps pods off cordoned nodes, unless they tolerate the taint that goes with it.
pub struct NodeUnschedulable;

struct Judgement {
    tolerated: bool,
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Result<Option<Box<dyn Judge + 'a>>, String> {
        let taint =
            Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
        let tolerated = pod.spec().tolerations.iter().flatten().any(|toleration| tolerates(toleration, &taint));
        Ok(Some(Box::new(Judgement { tolerated })))
    }
}

impl Judge for Judgement {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        if node.is_unschedulable() && !self.tolerated {
            vec!["node(s) were unschedulable".into()]
        } else {
            Vec::new()
        }
    }
}
