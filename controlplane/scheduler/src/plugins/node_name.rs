use crate::{
    framework::{Judge, Plugin},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// A pod that names its node runs there or nowhere.
pub struct NodeName;

struct Judgement<'a> {
    wanted: &'a str,
}

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Result<Option<Box<dyn Judge + 'a>>, String> {
        let wanted = pod.node();
        Ok((!wanted.is_empty()).then(|| Box::new(Judgement { wanted }) as Box<dyn Judge>))
    }
}

impl Judge for Judgement<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        if node.name == self.wanted {
            Vec::new()
        } else {
            vec!["node(s) didn't match the requested node name".into()]
        }
    }
}
