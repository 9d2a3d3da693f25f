//! The agent's specs as CRI messages. Pure.

use std::collections::BTreeMap;

use super::pb;
use crate::runtime::{ContainerSpec, Mount, PodIdentity, PortMapping, SandboxSpec};

/// The labels that CRI tools know pods and containers by.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Whose sandbox it is: agents that share a runtime leave each other's alone.
pub const NODE: &str = "keelstone.io/node";
/// The start's number, for people who look with the runtime's own tools.
const ATTEMPT: &str = "keelstone.io/attempt";

const CPU_PERIOD_US: i64 = 100_000;
/// Paths that show or change the machine, hidden from containers that are not privileged, as the kubelet does.
const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The cgroup of a pod, below the node's; empty if the node has none of its own.
pub fn pod_cgroup(cgroup_parent: &str, uid: &str) -> String {
    match cgroup_parent.trim_end_matches('/') {
        "" => String::new(),
        parent => format!("{parent}/pod{uid}"),
    }
}

fn pod_labels(pod: &PodIdentity) -> [(String, String); 3] {
    [
        (POD_NAME.into(), pod.name.clone()),
        (POD_NAMESPACE.into(), pod.namespace.clone()),
        (POD_UID.into(), pod.uid.clone()),
    ]
}

/// Matches what the agent of this node has started.
pub fn own(node: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(NODE.into(), node.to_owned())])
}

fn namespaces(spec: &SandboxSpec) -> pb::NamespaceOption {
    let node_or =
        |on_node: bool, other: pb::NamespaceMode| if on_node { pb::NamespaceMode::Node } else { other } as i32;
    let pid = if spec.share_process_namespace { pb::NamespaceMode::Pod } else { pb::NamespaceMode::Container };
    pb::NamespaceOption {
        network: node_or(spec.host_network, pb::NamespaceMode::Pod),
        pid: node_or(spec.host_pid, pid),
        ipc: node_or(spec.host_ipc, pb::NamespaceMode::Pod),
    }
}

fn seccomp(runtime_default: bool) -> pb::SecurityProfile {
    use pb::security_profile::ProfileType;
    let kind = if runtime_default { ProfileType::RuntimeDefault } else { ProfileType::Unconfined };
    pb::SecurityProfile { profile_type: kind as i32, localhost_ref: String::new() }
}

pub fn sandbox(spec: &SandboxSpec, node: &str, cgroup_parent: &str) -> pb::PodSandboxConfig {
    let dns = !(spec.dns_servers.is_empty() && spec.dns_searches.is_empty() && spec.dns_options.is_empty());
    let mut labels = spec.labels.clone();
    labels.extend(pod_labels(&spec.pod));
    labels.extend(own(node));
    pb::PodSandboxConfig {
        metadata: Some(pb::PodSandboxMetadata {
            name: spec.pod.name.clone(),
            uid: spec.pod.uid.clone(),
            namespace: spec.pod.namespace.clone(),
            attempt: spec.attempt,
        }),
        // On the host's network it keeps the host's name.
        hostname: if spec.host_network { String::new() } else { spec.hostname.clone() },
        log_directory: spec.log_dir.display().to_string(),
        dns_config: dns.then(|| pb::DnsConfig {
            servers: spec.dns_servers.clone(),
            searches: spec.dns_searches.clone(),
            options: spec.dns_options.clone(),
        }),
        port_mappings: if spec.host_network { Vec::new() } else { spec.port_mappings.iter().map(port).collect() },
        labels,
        annotations: spec.annotations.clone(),
        linux: Some(pb::LinuxPodSandboxConfig {
            cgroup_parent: pod_cgroup(cgroup_parent, &spec.pod.uid),
            security_context: Some(pb::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(spec)),
                privileged: spec.privileged,
                seccomp: Some(seccomp(!spec.privileged)),
            }),
            sysctls: spec.sysctls.clone(),
        }),
    }
}

fn port(mapping: &PortMapping) -> pb::PortMapping {
    let protocol = match mapping.protocol.as_str() {
        "UDP" => pb::Protocol::Udp,
        "SCTP" => pb::Protocol::Sctp,
        _ => pb::Protocol::Tcp,
    };
    pb::PortMapping {
        protocol: protocol as i32,
        container_port: i32::from(mapping.container_port),
        host_port: i32::from(mapping.host_port),
        host_ip: mapping.host_ip.clone(),
    }
}

fn mount(mount: &Mount) -> pb::Mount {
    let propagation = match mount.propagation.as_str() {
        "HostToContainer" => pb::MountPropagation::PropagationHostToContainer,
        "Bidirectional" => pb::MountPropagation::PropagationBidirectional,
        _ => pb::MountPropagation::PropagationPrivate,
    };
    pb::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.display().to_string(),
        readonly: mount.read_only,
        selinux_relabel: false,
        propagation: propagation as i32,
    }
}

/// Who the container runs as if its spec does not say: from its image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub name: String,
}

impl ImageUser {
    /// Why a container that must not be root cannot be started, as the kubelet says it.
    pub fn non_root_violation(&self, spec: &ContainerSpec) -> Option<String> {
        if !spec.run_as_non_root {
            return None;
        }
        match (spec.run_as_user, self.uid) {
            (Some(0), _) => Some("container's runAsUser breaks non-root policy".into()),
            (Some(_), _) => None,
            (None, _) if !self.name.is_empty() => Some(format!(
                "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root",
                self.name
            )),
            (None, Some(uid)) if uid != 0 => None,
            (None, _) => Some("container has runAsNonRoot and image will run as root".into()),
        }
    }
}

pub fn container(sandbox: &SandboxSpec, spec: &ContainerSpec, image: &str, user: &ImageUser) -> pb::ContainerConfig {
    let mut labels = BTreeMap::from(pod_labels(&sandbox.pod));
    labels.insert(CONTAINER_NAME.into(), spec.name.clone());
    let envs = spec.env.iter().map(|(key, value)| pb::KeyValue { key: key.clone(), value: value.clone() });
    pb::ContainerConfig {
        metadata: Some(pb::ContainerMetadata { name: spec.name.clone(), attempt: spec.attempt }),
        image: Some(pb::ImageSpec { image: image.to_owned() }),
        command: spec.command.clone(),
        args: spec.args.clone(),
        working_dir: spec.working_dir.clone(),
        envs: envs.collect(),
        mounts: spec.mounts.iter().map(mount).collect(),
        labels,
        annotations: BTreeMap::from([(ATTEMPT.to_owned(), spec.attempt.to_string())]),
        log_path: spec.log_path.clone(),
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        linux: Some(pb::LinuxContainerConfig {
            resources: Some(pb::LinuxContainerResources {
                cpu_period: if spec.cpu_quota_us > 0 { CPU_PERIOD_US } else { 0 },
                cpu_quota: spec.cpu_quota_us,
                cpu_shares: spec.cpu_shares,
                memory_limit_in_bytes: spec.memory_limit_bytes,
                oom_score_adj: spec.oom_score_adj,
            }),
            security_context: Some(security(sandbox, spec, user)),
        }),
    }
}

fn security(sandbox: &SandboxSpec, spec: &ContainerSpec, user: &ImageUser) -> pb::LinuxContainerSecurityContext {
    let id = |value: i64| pb::Int64Value { value };
    let paths = |paths: &[&str]| match spec.privileged {
        true => Vec::new(),
        false => paths.iter().map(|p| (*p).to_owned()).collect(),
    };
    let uid = spec.run_as_user.or(user.uid);
    // A group counts only beside a user; root is whom a container without one runs as.
    let uid = uid.or(spec.run_as_group.filter(|_| user.name.is_empty()).map(|_| 0));
    pb::LinuxContainerSecurityContext {
        capabilities: Some(pb::Capability {
            add_capabilities: spec.add_capabilities.clone(),
            drop_capabilities: spec.drop_capabilities.clone(),
        }),
        privileged: spec.privileged,
        namespace_options: Some(namespaces(sandbox)),
        run_as_user: uid.map(id),
        run_as_group: spec.run_as_group.map(id),
        run_as_username: if uid.is_none() { user.name.clone() } else { String::new() },
        readonly_rootfs: spec.read_only_root,
        supplemental_groups: spec.supplemental_groups.clone(),
        no_new_privs: spec.no_new_privileges && !spec.privileged,
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(spec.seccomp_runtime_default && !spec.privileged)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_follow_the_pod() {
        let spec = SandboxSpec::default();
        let modes = |spec: &SandboxSpec| {
            let n = namespaces(spec);
            (n.network, n.pid, n.ipc)
        };
        assert_eq!(modes(&spec), (0, 1, 0));
        assert_eq!(modes(&SandboxSpec { share_process_namespace: true, ..spec.clone() }), (0, 0, 0));
        let host = SandboxSpec { host_network: true, host_pid: true, host_ipc: true, ..spec };
        assert_eq!(modes(&host), (2, 2, 2));
    }

    #[test]
    fn a_sandbox_is_known_by_its_labels_and_name() {
        let pod = PodIdentity { uid: "u1".into(), namespace: "ns".into(), name: "web".into() };
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned()), (POD_UID.to_owned(), "wrong".to_owned())]);
        let spec = SandboxSpec { pod, attempt: 2, labels, hostname: "web".into(), ..SandboxSpec::default() };
        let config = sandbox(&spec, "w1", "/keelstone/w1/");
        let labels: Vec<String> = config.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            labels,
            [
                "app=web",
                "io.kubernetes.pod.name=web",
                "io.kubernetes.pod.namespace=ns",
                "io.kubernetes.pod.uid=u1",
                "keelstone.io/node=w1"
            ]
        );
        assert_eq!(config.metadata.unwrap().attempt, 2);
        assert_eq!(config.linux.unwrap().cgroup_parent, "/keelstone/w1/podu1");
        assert_eq!(pod_cgroup("", "u1"), "");
        assert!(config.dns_config.is_none());
    }

    #[test]
    fn a_container_that_must_not_be_root_is_not() {
        let asks = |user: Option<i64>| ContainerSpec { run_as_non_root: true, run_as_user: user, ..Default::default() };
        let image = |uid: Option<i64>, name: &str| ImageUser { uid, name: name.into() };
        assert_eq!(image(None, "").non_root_violation(&ContainerSpec::default()), None);
        assert_eq!(image(None, "").non_root_violation(&asks(Some(1))), None);
        assert_eq!(image(Some(5), "").non_root_violation(&asks(None)), None);
        for (image, user, said) in [
            (image(Some(5), ""), Some(0), "container's runAsUser breaks non-root policy"),
            (image(None, ""), None, "container has runAsNonRoot and image will run as root"),
            (image(Some(0), ""), None, "container has runAsNonRoot and image will run as root"),
            (
                image(None, "www"),
                None,
                "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root",
            ),
        ] {
            assert_eq!(image.non_root_violation(&asks(user)).as_deref(), Some(said));
        }
    }

    #[test]
    fn privileges_lift_what_confines() {
        let plain = security(&SandboxSpec::default(), &ContainerSpec::default(), &ImageUser::default());
        assert_eq!(plain.masked_paths.len(), MASKED.len());
        let spec = ContainerSpec {
            privileged: true,
            no_new_privileges: true,
            seccomp_runtime_default: true,
            ..ContainerSpec::default()
        };
        let lifted = security(&SandboxSpec::default(), &spec, &ImageUser::default());
        assert!(lifted.masked_paths.is_empty() && !lifted.no_new_privs);
        assert_eq!(lifted.seccomp, Some(seccomp(false)));
        // A group alone would be refused by the runtime.
        let grouped = ContainerSpec { run_as_group: Some(7), ..ContainerSpec::default() };
        let grouped = security(&SandboxSpec::default(), &grouped, &ImageUser::default());
        assert_eq!(grouped.run_as_user, Some(pb::Int64Value { value: 0 }));
    }
}
