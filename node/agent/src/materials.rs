//! What a pod's sandbox and containers are made of: the runtime's specs from the pod's.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Container, Pod, PodSecurityContext, Secret, SecurityContext},
    apimachinery::pkg::api::resource::Quantity,
};
use keelstone_client::Object;
use keelstone_machinery::quantity::Quantity as Amount;

use crate::{
    agent::Shared,
    config::AgentConfig,
    expand::expand,
    fields,
    runtime::{ContainerSpec, Mount, PodIdentity, PortMapping, SandboxSpec},
};

/// Why a container's parts cannot be had (yet).
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// `configmap "x" not found`, `couldn't find key k in ConfigMap ns/x`.
    #[error("{0}")]
    Missing(String),
    #[error("{0}")]
    Api(#[from] keelstone_client::ClientError),
    #[error("{what} could not be written: {source}")]
    Io { what: String, source: std::io::Error },
}

/// Where the logs of a pod's containers are kept: `<root>/logs/<namespace>_<name>_<uid>`.
pub fn log_dir(config: &AgentConfig, pod: &Pod) -> PathBuf {
    config.root_dir.join("logs").join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
}

/// A container's log, relative to its pod's log folder.
pub fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

pub fn sandbox_spec(config: &AgentConfig, pod: &Pod, attempt: u32) -> SandboxSpec {
    let spec = pod.spec.clone().unwrap_or_default();
    let host_network = spec.host_network.unwrap_or(false);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let own = spec.dns_config.clone().unwrap_or_default();
    let cluster_first = policy == "ClusterFirst" && !host_network || policy == "ClusterFirstWithHostNet";
    let (mut servers, mut searches) = (Vec::new(), Vec::new());
    if cluster_first && !config.cluster_dns.is_empty() {
        servers.clone_from(&config.cluster_dns);
        let domain = &config.cluster_domain;
        searches = vec![format!("{}.svc.{domain}", pod.namespace()), format!("svc.{domain}"), domain.clone()];
    }
    servers.extend(own.nameservers.unwrap_or_default());
    searches.extend(own.searches.unwrap_or_default());
    let option = |o: k8s_openapi::api::core::v1::PodDNSConfigOption| match (o.name, o.value) {
        (Some(name), Some(value)) => Some(format!("{name}:{value}")),
        (name, _) => name,
    };
    SandboxSpec {
        pod: PodIdentity { uid: pod.uid().into(), namespace: pod.namespace().into(), name: pod.name().into() },
        attempt,
        hostname: spec.hostname.clone().unwrap_or_else(|| pod.name().chars().take(63).collect()),
        host_network,
        host_pid: spec.host_pid.unwrap_or(false),
        host_ipc: spec.host_ipc.unwrap_or(false),
        share_process_namespace: spec.share_process_namespace.unwrap_or(false),
        privileged: spec.init_containers.iter().flatten().chain(&spec.containers).any(is_privileged),
        dns_servers: servers,
        dns_searches: searches,
        dns_options: own.options.unwrap_or_default().into_iter().filter_map(option).collect(),
        sysctls: pod_security(pod).sysctls.unwrap_or_default().into_iter().map(|s| (s.name, s.value)).collect(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        annotations: BTreeMap::new(),
        log_dir: log_dir(config, pod),
        port_mappings: port_mappings(&spec.containers),
    }
}

fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|s| s.privileged).unwrap_or(false)
}

fn port_mappings(containers: &[Container]) -> Vec<PortMapping> {
    let ports = containers.iter().flat_map(|c| c.ports.iter().flatten());
    let mapping = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        Some(PortMapping {
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            container_port: u16::try_from(port.container_port).ok()?,
            host_port: u16::try_from(port.host_port?).ok().filter(|p| *p != 0)?,
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
    };
    ports.filter_map(mapping).collect()
}

fn pod_security(pod: &Pod) -> PodSecurityContext {
    pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default()
}

/// Gathers all that one start of a container needs; volumes are written before it returns.
///
/// # Errors
/// If a ConfigMap, Secret or key that is not optional is missing, or a volume cannot be written.
pub async fn container_spec(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    container: &Container,
    pod_ip: &str,
    attempt: u32,
) -> Result<ContainerSpec, MaterialError> {
    let volumes = shared.volumes.prepare(pod, pod_ip).await?;
    let env = environment(shared, pod, container, pod_ip).await?;
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let root = volumes.get(&mount.name).ok_or_else(|| {
            MaterialError::Missing(format!("container {} mounts unknown volume {}", container.name, mount.name))
        })?;
        let variables: BTreeMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) => path.clone(),
            (None, Some(pattern)) => expand(pattern, &variables),
            (None, None) => String::new(),
        };
        let host_path = shared.volumes.sub_path(root, &sub_path)?;
        mounts.push(Mount {
            host_path,
            container_path: mount.mount_path.clone(),
            read_only: mount.read_only.unwrap_or(false) || root.read_only,
            propagation: mount.mount_propagation.clone().unwrap_or_else(|| "None".into()),
        });
    }
    mounts.extend(shared.volumes.well_known(pod, pod_ip).await?);
    let variables: BTreeMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expanded =
        |words: &Option<Vec<String>>| words.iter().flatten().map(|w| expand(w, &variables)).collect::<Vec<String>>();
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let security = container.security_context.clone().unwrap_or_default();
    let of_pod = pod_security(pod);
    let amount = |map: Option<&BTreeMap<String, Quantity>>, name: &str| {
        map.and_then(|m| m.get(name)).and_then(|q| Amount::parse(&q.0).ok())
    };
    let resources = container.resources.clone().unwrap_or_default();
    let cpu_request_millis = amount(resources.requests.as_ref(), "cpu").map_or(0, |q| q.milli());
    let cpu_limit_millis = amount(resources.limits.as_ref(), "cpu").map_or(0, |q| q.milli());
    let memory_limit_bytes = amount(resources.limits.as_ref(), "memory").map_or(0, |q| q.milli() / 1000);
    Ok(ContainerSpec {
        name: container.name.clone(),
        attempt,
        image: container.image.clone().unwrap_or_default(),
        image_pull_policy: container.image_pull_policy.clone().unwrap_or_else(|| "IfNotPresent".into()),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts,
        tty: container.tty.unwrap_or(false),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        privileged: security.privileged.unwrap_or(false),
        read_only_root: security.read_only_root_filesystem.unwrap_or(false),
        run_as_user: security.run_as_user.or(of_pod.run_as_user),
        run_as_non_root: security.run_as_non_root.or(of_pod.run_as_non_root).unwrap_or(false),
        run_as_group: security.run_as_group.or(of_pod.run_as_group),
        supplemental_groups: supplemental_groups(&of_pod),
        add_capabilities: capabilities(&security, true),
        drop_capabilities: capabilities(&security, false),
        no_new_privileges: security.allow_privilege_escalation == Some(false),
        seccomp_runtime_default: security
            .seccomp_profile
            .as_ref()
            .or(of_pod.seccomp_profile.as_ref())
            .is_some_and(|p| p.type_ == "RuntimeDefault"),
        cpu_shares: cpu_shares(cpu_request_millis),
        cpu_quota_us: cpu_limit_millis.saturating_mul(100),
        memory_limit_bytes,
        oom_score_adj: 0,
        log_path: log_path(&container.name, attempt),
        env,
    })
}

/// CPU requests as cgroup shares: 1024 for a core, at least 2.
fn cpu_shares(millis: i64) -> i64 {
    (millis.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

fn supplemental_groups(pod: &PodSecurityContext) -> Vec<i64> {
    let mut groups = pod.supplemental_groups.clone().unwrap_or_default();
    groups.extend(pod.fs_group);
    groups
}

fn capabilities(security: &SecurityContext, add: bool) -> Vec<String> {
    let capabilities = security.capabilities.clone().unwrap_or_default();
    if add { capabilities.add } else { capabilities.drop }.unwrap_or_default()
}

/// The container's variables in the order in which they count: envFrom, then env; a later one of the same
/// name wins. `$(NAME)` refers to those before it.
async fn environment(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    pod_ip: &str,
) -> Result<Vec<(String, String)>, MaterialError> {
    let mut variables: Vec<(String, String)> = vec![("HOSTNAME".into(), sandbox_spec(&shared.config, pod, 0).hostname)];
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.clone().unwrap_or_default();
        let data = if let Some(reference) = &source.config_map_ref {
            config_map(shared, pod, &reference.name, reference.optional).await?.map(|m| m.data.unwrap_or_default())
        } else if let Some(reference) = &source.secret_ref {
            secret(shared, pod, &reference.name, reference.optional).await?.map(|s| text_of(&s))
        } else {
            None
        };
        for (key, value) in data.unwrap_or_default() {
            set(&mut variables, format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(pattern), _) => {
                let known: BTreeMap<&str, &str> = variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                Some(expand(pattern, &known))
            }
            (None, Some(source)) => referred(shared, pod, container, source, pod_ip).await?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut variables, variable.name.clone(), value);
        }
    }
    Ok(variables)
}

fn set(variables: &mut Vec<(String, String)>, name: String, value: String) {
    variables.retain(|(known, _)| *known != name);
    variables.push((name, value));
}

async fn referred(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    source: &k8s_openapi::api::core::v1::EnvVarSource,
    pod_ip: &str,
) -> Result<Option<String>, MaterialError> {
    let missing_key = |kind: &str, name: &str, key: &str, optional: Option<bool>| match optional {
        Some(true) => Ok(None),
        _ => Err(MaterialError::Missing(format!("couldn't find key {key} in {kind} {}/{name}", pod.namespace()))),
    };
    if let Some(field) = &source.field_ref {
        return Ok(Some(fields::pod_field(&shared.config, pod, &field.field_path, pod_ip)?));
    }
    if let Some(resource) = &source.resource_field_ref {
        return Ok(Some(fields::resource_field(&shared.config, pod, container, resource)?));
    }
    if let Some(reference) = &source.config_map_key_ref {
        let map = config_map(shared, pod, &reference.name, reference.optional).await?;
        let value = map.and_then(|m| m.data).and_then(|d| d.get(&reference.key).cloned());
        return value.map_or_else(
            || missing_key("ConfigMap", &reference.name, &reference.key, reference.optional),
            |v| Ok(Some(v)),
        );
    }
    if let Some(reference) = &source.secret_key_ref {
        let found = secret(shared, pod, &reference.name, reference.optional).await?;
        let value = found.and_then(|s| text_of(&s).get(&reference.key).cloned());
        return value.map_or_else(
            || missing_key("Secret", &reference.name, &reference.key, reference.optional),
            |v| Ok(Some(v)),
        );
    }
    Ok(None)
}

fn text_of(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned())).collect()
}

/// # Errors
/// If it is missing and not optional.
pub async fn config_map(
    shared: &Shared,
    pod: &Pod,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<ConfigMap>, MaterialError> {
    let found = shared.client.namespaced::<ConfigMap>(pod.namespace()).get_opt(name).await?;
    required(found, optional, || format!("configmap \"{name}\" not found"))
}

/// # Errors
/// If it is missing and not optional.
pub async fn secret(
    shared: &Shared,
    pod: &Pod,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<Secret>, MaterialError> {
    let found = shared.client.namespaced::<Secret>(pod.namespace()).get_opt(name).await?;
    required(found, optional, || format!("secret \"{name}\" not found"))
}

pub fn required<T>(
    found: Option<T>,
    optional: Option<bool>,
    missing: impl FnOnce() -> String,
) -> Result<Option<T>, MaterialError> {
    match (found, optional) {
        (None, Some(true)) => Ok(None),
        (None, _) => Err(MaterialError::Missing(missing())),
        (found, _) => Ok(found),
    }
}
