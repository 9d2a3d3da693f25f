use crate::{node_lifecycle::NodeLifecycleConfig, pod_gc::PodGcConfig};

/// What can be chosen about the controllers; the defaults are those of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControllersConfig {
    pub node_lifecycle: NodeLifecycleConfig,
    pub pod_gc: PodGcConfig,
    /// PEM text of the certificates that verify the API server; published in each namespace unless empty.
    pub root_ca: String,
}
