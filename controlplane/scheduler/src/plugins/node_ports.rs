use crate::{
    framework::{Judge, Plugin},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// A port of the node is taken by one pod only.
pub struct NodePorts;

struct Judgement<'a> {
    pod: &'a PodInfo,
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Result<Option<Box<dyn Judge + 'a>>, String> {
        Ok((!pod.ports.is_empty()).then(|| Box::new(Judgement { pod }) as Box<dyn Judge>))
    }
}

impl Judge for Judgement<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        let taken = node.ports().any(|taken| self.pod.ports.iter().any(|wanted| wanted.conflicts_with(taken)));
        if taken {
            vec!["node(s) didn't have free ports for the requested pod ports".into()]
        } else {
            Vec::new()
        }
    }
}
