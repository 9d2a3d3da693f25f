//! Whether a pod may run on this node at all. What the agent does not implement is refused here, with an
//! event and a failed phase, and never run without it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec, Volume};
use keelstone_client::Object;
use keelstone_machinery::quantity::Quantity;

use crate::config::Capacity;

/// What a new pod is measured against.
pub struct AdmitContext {
    /// The other pods of this node that are not being deleted.
    pub others: Vec<Arc<Pod>>,
    pub node: Option<Arc<Node>>,
    pub capacity: Capacity,
}

/// Reason and message of the refusal, if the pod is refused.
pub fn refusal(pod: &Pod, context: &AdmitContext) -> Option<(String, String)> {
    let spec = pod.spec.as_ref()?;
    if let Some(what) = not_implemented(spec) {
        return Some(("UnsupportedPodSpec".into(), format!("this node does not implement {what}")));
    }
    if let Some((key, value)) = wrong_node(spec, context) {
        let message = format!("Predicate NodeAffinity failed: the node lacks the label {key}={value}");
        return Some(("NodeAffinity".into(), message));
    }
    no_room(pod, context)
}

/// The first thing asked for that the agent would have to leave out.
fn not_implemented(spec: &PodSpec) -> Option<String> {
    let no = |asked: bool, what: &str| asked.then(|| what.to_owned());
    no(spec.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty()), "ephemeral containers")
        .or_else(|| no(spec.resource_claims.as_ref().is_some_and(|c| !c.is_empty()), "resource claims"))
        .or_else(|| no(spec.runtime_class_name.is_some(), "runtime classes"))
        .or_else(|| no(spec.host_users == Some(false), "user namespaces"))
        .or_else(|| no(spec.os.as_ref().is_some_and(|os| os.name != "linux"), "an operating system other than linux"))
        .or_else(|| spec.volumes.iter().flatten().find_map(unsupported_volume))
        .or_else(|| {
            let inits = spec.init_containers.iter().flatten();
            inits.chain(&spec.containers).find_map(unsupported_in_container)
        })
}

fn unsupported_volume(volume: &Volume) -> Option<String> {
    let known = volume.empty_dir.is_some()
        || volume.host_path.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some();
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    let foreign = projected.into_iter().any(|s| s.cluster_trust_bundle.is_some() || s.pod_certificate.is_some());
    (!known || foreign).then(|| format!("the type of volume {}", volume.name))
}

fn unsupported_in_container(container: &Container) -> Option<String> {
    let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
    if probes.into_iter().flatten().any(|p| p.grpc.is_some()) {
        return Some(format!("the gRPC probe of container {}", container.name));
    }
    if container.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
        return Some(format!("the block devices of container {}", container.name));
    }
    let security = container.security_context.as_ref()?;
    let no = |asked: bool, what: &str| asked.then(|| format!("{what} of container {}", container.name));
    no(security.se_linux_options.is_some(), "the SELinux options")
        .or_else(|| no(security.windows_options.is_some(), "the Windows options"))
        .or_else(|| {
            let local = security.seccomp_profile.as_ref().is_some_and(|p| p.type_ == "Localhost");
            no(local, "the local seccomp profile")
        })
        .or_else(|| {
            let local = security.app_armor_profile.as_ref().is_some_and(|p| p.type_ == "Localhost");
            no(local, "the local AppArmor profile")
        })
        .or_else(|| no(security.proc_mount.as_deref().is_some_and(|p| p != "Default"), "the proc mount"))
}

fn wrong_node<'a>(spec: &'a PodSpec, context: &AdmitContext) -> Option<(&'a str, &'a str)> {
    let node = context.node.as_ref()?;
    let wanted = spec.node_selector.iter().flatten();
    let mut missing = wanted.filter(|(key, value)| node.label(key) != Some(value.as_str()));
    missing.next().map(|(key, value)| (key.as_str(), value.as_str()))
}

/// The node's own check, beside the scheduler's: two schedulers, or a binding by hand, may have given it too much.
fn no_room(pod: &Pod, context: &AdmitContext) -> Option<(String, String)> {
    let live: Vec<&Arc<Pod>> = context.others.iter().filter(|p| !ended(p)).collect();
    if live.len() + 1 > context.capacity.pods {
        let message = format!(
            "Node didn't have enough resource: pods, requested: 1, used: {}, capacity: {}",
            live.len(),
            context.capacity.pods
        );
        return Some(("OutOfpods".into(), message));
    }
    for (resource, capacity) in
        [("cpu", i128::from(context.capacity.cpu_millis)), ("memory", i128::from(context.capacity.memory_bytes) * 1000)]
    {
        let wanted = request_milli(pod, resource);
        let used: i128 = live.iter().map(|p| request_milli(p, resource)).sum();
        if wanted > 0 && used + wanted > capacity {
            let message = format!(
                "Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return Some((format!("OutOf{resource}"), message));
        }
    }
    None
}

fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A pod's request in thousandths: the sum of its containers, or its largest init container.
fn request_milli(pod: &Pod, resource: &str) -> i128 {
    let Some(spec) = &pod.spec else { return 0 };
    let of = |container: &Container| {
        let request = container.resources.as_ref().and_then(|r| r.requests.as_ref()).and_then(|r| r.get(resource));
        request.and_then(|q| Quantity::parse(&q.0).ok()).map_or(0, |q| i128::from(q.milli()))
    };
    let mains: i128 = spec.containers.iter().map(of).sum();
    let init = spec.init_containers.iter().flatten().map(of).max().unwrap_or(0);
    mains.max(init)
}
