//! NamespaceLifecycle: nothing is created in a namespace that is not there or is going away.

use std::sync::Arc;

use keelstone_machinery::{
    gvk::GroupResource,
    status::{ApiResult, ApiStatus, Cause},
};
use serde_json::Value;

use super::Request;
use crate::Lister;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Checks a creation inside a namespace.
pub(super) async fn check_create(request: &Request, lister: &Arc<dyn Lister>) -> ApiResult<()> {
    let namespace = request.namespace.as_str();
    if namespace.is_empty() || request.is("", "namespaces") || is_review(request) {
        return Ok(());
    }
    let found = match lister.get("", "namespaces", "", namespace) {
        Some(found) => Some(found),
        None => lister.get_fresh("", "namespaces", "", namespace).await?,
    };
    let Some(found) = found else {
        let namespaces = GroupResource { group: String::new(), resource: "namespaces".into() };
        return Err(ApiStatus::not_found(&namespaces, namespace));
    };
    // Subresources (a pod's eviction or binding) belong to an object that exists already.
    if !request.subresource.is_empty() || found.pointer("/status/phase").and_then(Value::as_str) != Some("Terminating")
    {
        return Ok(());
    }
    let text = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut refused = request.forbidden(&text);
    refused.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".into(),
    });
    Err(refused)
}

/// Checks a deletion of a namespace.
pub(super) fn check_delete(request: &Request) -> ApiResult<()> {
    if request.is("", "namespaces") && IMMORTAL.contains(&request.name.as_str()) {
        return Err(request.forbidden("this namespace may not be deleted"));
    }
    Ok(())
}

/// Questions about access are asked of a namespace without creating anything in it.
fn is_review(request: &Request) -> bool {
    request.group == "authorization.k8s.io" && request.resource == "localsubjectaccessreviews"
}
