//! What Endpoints and EndpointSlices have in common: which pods and ports stand behind a Service.

use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use keelstone_client::{Object, Store};
use keelstone_machinery::selector::LabelSelector;
use std::collections::BTreeMap;

use super::{pods, selector};

/// A label of Endpoints and EndpointSlices of headless Services.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// One port that a pod serves for a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub name: String,
    pub port: i32,
    pub protocol: String,
    pub app_protocol: Option<String>,
}

/// The pods that a Service selects by `spec.selector`; `None` if somebody else takes care of its endpoints.
pub fn selector_of(service: &Service) -> Option<LabelSelector> {
    let spec = service.spec.as_ref()?;
    let labels = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    Some(LabelSelector::from_map(&serde_json::to_value(labels).unwrap_or_default()))
}

pub fn is_headless(service: &Service) -> bool {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    address == Some("None")
}

/// Not ready pods count as ready.
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true)
}

/// The pod's own name in the Service's domain, if it has one.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let in_domain = spec.subdomain.as_deref() == Some(service.name());
    spec.hostname.clone().filter(|hostname| in_domain && !hostname.is_empty())
}

pub fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace().to_owned()),
        name: Some(pod.name().to_owned()),
        uid: Some(pod.uid().to_owned()),
        ..ObjectReference::default()
    }
}

/// The pod's addresses of one family.
pub fn addresses(pod: &Pod, ipv6: bool) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let mut all: Vec<String> = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    if all.is_empty() {
        all.extend(status.pod_ip.clone());
    }
    all.retain(|ip| !ip.is_empty() && ip.contains(':') == ipv6);
    all
}

/// The ports of the Service that this pod serves: a target port that is named, but not among the pod's, is
/// left out.
pub fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let all = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let mut ports: Vec<Port> = all.into_iter().flatten().filter_map(|port| resolve(port, pod)).collect();
    ports.sort();
    ports
}

fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => named_port(pod, name, &protocol)?,
    };
    let name = port.name.clone().unwrap_or_default();
    Some(Port { name, port: number, protocol, app_protocol: port.app_protocol.clone() })
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    // Of the init containers only those that keep running serve anything.
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let mut same = ports.filter(|port| port.name.as_deref() == Some(name));
    same.find(|port| port.protocol.as_deref().unwrap_or("TCP") == protocol).map(|port| port.container_port)
}

/// The Services that a pod may stand behind.
pub fn services_of(pod: &Pod, services: &Store<Service>) -> Vec<String> {
    let labels = pod.metadata.labels.as_ref();
    let matches = |service: &Service| selector_of(service).is_some_and(|s| selector::matches(&s, labels));
    services.list_in(pod.namespace()).iter().filter(|service| matches(service)).map(|service| service.key()).collect()
}

/// A Service's labels without those that controllers own.
pub fn labels_of(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels
}

/// Whether a pod has, or had until its end began, something to serve.
pub fn serves(pod: &Pod) -> bool {
    !pods::is_finished(pod) && !pods::node_name(pod).is_empty()
}
