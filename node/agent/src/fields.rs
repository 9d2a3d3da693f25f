//! The downward API: a pod's own fields and resources as text.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use keelstone_client::Object;
use keelstone_machinery::quantity::Quantity;

use crate::{config::AgentConfig, materials::MaterialError};

/// The text of a field: `metadata.name`, `metadata.labels['app']`, `status.podIP`, `spec.nodeName` ...
///
/// # Errors
/// If the field is not one that the downward API has.
pub fn pod_field(config: &AgentConfig, pod: &Pod, path: &str, pod_ip: &str) -> Result<String, MaterialError> {
    let all = |map: &Option<BTreeMap<String, String>>| {
        let lines = map.iter().flatten().map(|(k, v)| format!("{k}={v:?}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let address = if pod_ip.is_empty() { config.address.as_str() } else { pod_ip };
    let text = match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => all(&pod.metadata.labels),
        "metadata.annotations" => all(&pod.metadata.annotations),
        "spec.nodeName" => config.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.podIP" | "status.podIPs" => address.to_owned(),
        "status.hostIP" | "status.hostIPs" => config.address.clone(),
        _ => {
            let named = |prefix: &str, map: &Option<BTreeMap<String, String>>| {
                let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
                Some(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default())
            };
            named("metadata.labels", &pod.metadata.labels)
                .or_else(|| named("metadata.annotations", &pod.metadata.annotations))
                .ok_or_else(|| MaterialError::Missing(format!("unsupported fieldPath: {path}")))?
        }
    };
    Ok(text)
}

/// The amount of a container's resource, divided by the divisor and rounded up. Without a limit it is what
/// the node has.
///
/// # Errors
/// If the resource or the container is unknown, or an amount cannot be read.
pub fn resource_field(
    config: &AgentConfig,
    pod: &Pod,
    container: &Container,
    selector: &ResourceFieldSelector,
) -> Result<String, MaterialError> {
    let wrong = |text: String| MaterialError::Missing(text);
    let container = match &selector.container_name {
        None => container,
        Some(name) => {
            let found = pod.spec.as_ref().and_then(|s| s.containers.iter().find(|c| c.name == *name));
            found.ok_or_else(|| wrong(format!("container {name} not found")))?
        }
    };
    let (kind, name) = selector.resource.split_once('.').unwrap_or(("", ""));
    let resources = container.resources.clone().unwrap_or_default();
    let of_node = match name {
        "cpu" => format!("{}m", config.capacity.cpu_millis),
        "memory" => config.capacity.memory_bytes.to_string(),
        "ephemeral-storage" => config.capacity.ephemeral_storage_bytes.to_string(),
        _ => return Err(wrong(format!("unsupported container resource: {}", selector.resource))),
    };
    let given = match kind {
        "limits" => resources.limits.and_then(|l| l.get(name).map(|q| q.0.clone())).or(Some(of_node)),
        "requests" => resources.requests.and_then(|r| r.get(name).map(|q| q.0.clone())),
        _ => return Err(wrong(format!("unsupported container resource: {}", selector.resource))),
    };
    let parse = |text: &str| {
        let parsed = Quantity::parse(text).map_err(|_| wrong(format!("{text} is not a quantity")))?;
        Ok::<i128, MaterialError>(i128::from(parsed.milli()))
    };
    let amount = parse(given.as_deref().unwrap_or("0"))?;
    let divisor = selector.divisor.as_ref().map(|d| d.0.as_str()).filter(|d| *d != "0").unwrap_or("1");
    let divisor = parse(divisor)?.max(1);
    Ok(((amount + divisor - 1) / divisor).to_string())
}
