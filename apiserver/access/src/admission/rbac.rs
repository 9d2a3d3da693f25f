use keelstone_machinery::status::ApiResult;
use serde_json::Value;

use super::{Operation, Request};
use crate::authz::Rbac;

/// Roles and bindings may only grant what their author holds.
pub(super) fn check_escalation(
    request: &Request,
    rbac: &Rbac,
    object: Option<&Value>,
    old: Option<&Value>,
) -> ApiResult<()> {
    let Some(object) = object else {
        return Ok(());
    };
    if request.group != "rbac.authorization.k8s.io" || request.operation == Operation::Delete {
        return Ok(());
    }
    let (user, resource, namespace) = (&request.user, request.resource.as_str(), request.namespace.as_str());
    match resource {
        "roles" | "clusterroles" => rbac.check_role_write(user, resource, namespace, object, old),
        "rolebindings" | "clusterrolebindings" => rbac.check_binding_write(user, resource, namespace, object, old),
        _ => Ok(()),
    }
}
