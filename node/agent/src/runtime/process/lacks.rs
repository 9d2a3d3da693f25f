//! What the process runtime would have to leave out: pods that ask for it are refused.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// The first thing that the pod asks for and this runtime does not do.
pub fn lacks(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let security = spec.security_context.clone().unwrap_or_default();
    let no = |asked: bool, what: &str| asked.then(|| what.to_owned());
    let wants_seccomp = security.seccomp_profile.as_ref().is_some_and(|p| p.type_ != "Unconfined");
    no(spec.host_pid == Some(true), "the host's PID namespace")
        .or_else(|| no(spec.host_ipc == Some(true), "the host's IPC namespace"))
        .or_else(|| no(spec.share_process_namespace == Some(true), "a shared process namespace"))
        .or_else(|| no(security.sysctls.is_some_and(|s| !s.is_empty()), "sysctls"))
        .or_else(|| no(wants_seccomp, "seccomp profiles"))
        .or_else(|| no(spec.dns_config.is_some(), "a DNS configuration"))
        .or_else(|| {
            let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
            containers.find_map(|c| lacks_of_container(spec, c))
        })
}

fn lacks_of_container(spec: &PodSpec, container: &Container) -> Option<String> {
    let no = |asked: bool, what: &str| asked.then(|| format!("{what} of container {}", container.name));
    let security = container.security_context.clone().unwrap_or_default();
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
    let limited = limits.is_some_and(|l| l.contains_key("cpu") || l.contains_key("memory"));
    let ports = container.ports.iter().flatten();
    let host_ports = spec.host_network != Some(true) && ports.into_iter().any(|p| p.host_port.unwrap_or(0) != 0);
    let propagates =
        |m: &k8s_openapi::api::core::v1::VolumeMount| m.mount_propagation.as_deref().unwrap_or("None") != "None";
    let capabilities = security.capabilities.as_ref().is_some_and(|c| {
        c.add.as_ref().is_some_and(|a| !a.is_empty()) || c.drop.as_ref().is_some_and(|d| !d.is_empty())
    });
    let non_root = security.run_as_non_root.or(of_pod.run_as_non_root) == Some(true);
    let user = security.run_as_user.or(of_pod.run_as_user).unwrap_or(0);
    if container.command.as_ref().is_none_or(Vec::is_empty) {
        return Some(format!("images, and container {} has no command", container.name));
    }
    no(security.privileged == Some(true), "the privileges")
        .or_else(|| no(capabilities, "the capabilities"))
        .or_else(|| no(security.seccomp_profile.is_some_and(|p| p.type_ != "Unconfined"), "the seccomp profile"))
        .or_else(|| no(non_root && user == 0, "the user other than root, which is not given,"))
        .or_else(|| no(limited, "the resource limits"))
        .or_else(|| no(host_ports, "the host ports"))
        .or_else(|| no(container.tty == Some(true) || container.stdin == Some(true), "the terminal or standard input"))
        .or_else(|| no(container.volume_mounts.iter().flatten().any(propagates), "the mount propagation"))
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};

    use super::*;

    fn asked(spec: Value) -> Option<String> {
        lacks(&serde_json::from_value(json!({"spec": spec})).unwrap())
    }

    fn container(extra: Value) -> Value {
        let mut container = json!({"name": "a", "command": ["true"]});
        container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"containers": [container]})
    }

    #[test]
    fn what_would_be_left_out_is_named() {
        assert_eq!(asked(container(json!({}))), None);
        for (extra, what) in [
            (json!({"command": []}), "images, and container a has no command"),
            (json!({"securityContext": {"privileged": true}}), "the privileges of container a"),
            (json!({"securityContext": {"capabilities": {"drop": ["ALL"]}}}), "the capabilities of container a"),
            (json!({"resources": {"limits": {"memory": "1Mi"}}}), "the resource limits of container a"),
            (json!({"ports": [{"containerPort": 80, "hostPort": 80}]}), "the host ports of container a"),
            (json!({"tty": true}), "the terminal or standard input of container a"),
        ] {
            assert_eq!(asked(container(extra.clone())).as_deref(), Some(what), "{extra}");
        }
        let user = json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 7}});
        assert_eq!(asked(container(user)), None);
        for (field, value) in [
            ("hostPID", json!(true)),
            ("shareProcessNamespace", json!(true)),
            ("dnsConfig", json!({})),
            ("securityContext", json!({"sysctls": [{"name": "a", "value": "1"}]})),
        ] {
            let mut spec = container(json!({}));
            spec[field] = value;
            assert!(asked(spec).is_some(), "{field}");
        }
    }
}
