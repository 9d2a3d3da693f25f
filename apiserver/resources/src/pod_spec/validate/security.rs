//! The rules of security contexts.

use keelstone_machinery::field::Causes;
use serde_json::Value;

use crate::check;
use crate::json::{at, flag, has, int, items, text};

/// A user or group number.
fn check_id(causes: &mut Causes, path: &str, id: Option<i64>) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        let detail = format!("must be between 0 and {}, inclusive", i32::MAX);
        check::invalid(causes, path, &id.into(), &detail);
    }
}

fn check_seccomp(context: &Value, path: &str, causes: &mut Causes) {
    if !has(context, "seccompProfile") {
        return;
    }
    let (kind, profile) = (text(context, "seccompProfile.type"), text(context, "seccompProfile.localhostProfile"));
    let path = format!("{path}.seccompProfile");
    check::required_one_of(causes, &format!("{path}.type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"]);
    if kind == "Localhost" && profile.is_empty() {
        let detail = "must be set when seccomp type is Localhost";
        check::required(causes, &format!("{path}.localhostProfile"), detail);
    } else if kind != "Localhost" && !profile.is_empty() {
        let detail = "can only be set when seccomp type is Localhost";
        check::invalid(causes, &format!("{path}.localhostProfile"), &profile.into(), detail);
    }
}

pub fn pod(spec: &Value, path: &str, causes: &mut Causes) {
    let context = at(spec, "securityContext");
    let path = format!("{path}.securityContext");
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        check_id(causes, &format!("{path}.{field}"), int(context, field));
    }
    for (index, group) in items(context, "supplementalGroups").iter().enumerate() {
        check_id(causes, &format!("{path}.supplementalGroups[{index}]"), group.as_i64());
    }
    if has(context, "fsGroupChangePolicy") {
        let policy = text(context, "fsGroupChangePolicy");
        check::one_of(causes, &format!("{path}.fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"]);
    }
    check_seccomp(context, &path, causes);
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        check::invalid(causes, &format!("{path}.shareProcessNamespace"), &true.into(), detail);
    }
}

pub fn container(container: &Value, path: &str, causes: &mut Causes) {
    let context = at(container, "securityContext");
    let path = format!("{path}.securityContext");
    for field in ["runAsUser", "runAsGroup"] {
        check_id(causes, &format!("{path}.{field}"), int(context, field));
    }
    check_seccomp(context, &path, causes);
    if at(context, "allowPrivilegeEscalation").as_bool() != Some(false) {
        return;
    }
    if flag(context, "privileged") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        check::invalid(causes, &path, context, detail);
    }
    let capabilities = items(context, "capabilities.add");
    if capabilities.iter().any(|c| matches!(c.as_str(), Some("SYS_ADMIN" | "CAP_SYS_ADMIN"))) {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        check::invalid(causes, &path, context, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{container_errors, errors};
    use serde_json::json;

    #[test]
    fn ids_at_the_limit() {
        for (id, count) in [(-1, 1), (0, 0), (2_147_483_647, 0), (2_147_483_648_i64, 1)] {
            assert_eq!(container_errors("securityContext", json!({"runAsUser": id})).len(), count, "{id}");
            assert_eq!(errors(|s| s["securityContext"] = json!({"fsGroup": id})).len(), count, "{id}");
        }
    }

    #[test]
    fn contradictions() {
        let context = json!({"privileged": true, "allowPrivilegeEscalation": false});
        assert_eq!(container_errors("securityContext", context).len(), 1);
        let context = json!({"seccompProfile": {"type": "Localhost"}});
        assert_eq!(
            errors(|s| s["securityContext"] = context),
            vec!["spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"]
        );
    }
}
