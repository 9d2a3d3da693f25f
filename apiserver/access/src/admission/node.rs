//! TaintNodesByCondition and NodeRestriction.
//!
//! Kubernetes splits what a node may do between the Node authorizer (reads) and NodeRestriction (writes). Here
//! the role `system:node` covers reads, without narrowing them to what the node's own pods use; writes are
//! narrowed as in Kubernetes for nodes, leases, pods and tokens.

use std::sync::Arc;

use keelstone_machinery::status::ApiResult;
use serde_json::{json, Value};

use super::{Operation, Request};
use crate::Lister;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

/// A new node takes no pods until it has said that it is ready.
pub(super) fn add_not_ready_taint(node: &mut Value) {
    let tainted = node.pointer("/spec/taints").and_then(Value::as_array).into_iter().flatten();
    if tainted.clone().any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule") || !node.is_object() {
        return;
    }
    let mut taints: Vec<Value> = tainted.cloned().collect();
    taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    node["spec"]["taints"] = Value::Array(taints);
}

/// A node agent writes only its own node, its own lease, and the pods that are bound to it.
pub(super) async fn check_node_writes(
    request: &Request,
    object: Option<&Value>,
    old: Option<&Value>,
    lister: &Arc<dyn Lister>,
) -> ApiResult<()> {
    let Some(node) = request.user.node_name() else {
        return Ok(());
    };
    match (request.group.as_str(), request.resource.as_str()) {
        ("", "nodes") => check_node(request, node, object, old),
        ("", "pods") => check_pod(request, node, object, old, lister).await,
        ("coordination.k8s.io", "leases") => check_lease(request, node, object),
        _ => Ok(()),
    }
}

fn object_name<'a>(request: &'a Request, object: Option<&'a Value>) -> &'a str {
    let own = object.and_then(|o| o.pointer("/metadata/name")).and_then(Value::as_str).unwrap_or_default();
    if own.is_empty() {
        &request.name
    } else {
        own
    }
}

fn check_node(request: &Request, node: &str, object: Option<&Value>, old: Option<&Value>) -> ApiResult<()> {
    let name = object_name(request, object);
    if name != node {
        return Err(request.forbidden(&format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let taints = |o: &Value| o.pointer("/spec/taints").filter(|t| !t.is_null()).cloned();
    if let (Operation::Update, Some(object), Some(old)) = (request.operation, object, old) {
        if taints(object) != taints(old) {
            return Err(request.forbidden(&format!("node {node:?} is not allowed to modify taints")));
        }
    }
    Ok(())
}

fn check_lease(request: &Request, node: &str, object: Option<&Value>) -> ApiResult<()> {
    if request.namespace != "kube-node-lease" {
        let text = "can only access leases in the \"kube-node-lease\" system namespace";
        return Err(request.forbidden(text));
    }
    if object_name(request, object) != node {
        return Err(request.forbidden("can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}

async fn check_pod(
    request: &Request,
    node: &str,
    object: Option<&Value>,
    old: Option<&Value>,
    lister: &Arc<dyn Lister>,
) -> ApiResult<()> {
    let bound_to = |pod: &Value| pod.pointer("/spec/nodeName").and_then(Value::as_str).map(str::to_owned);
    match (request.operation, request.subresource.as_str()) {
        (Operation::Create, "") => {
            let pod = object.unwrap_or(&Value::Null);
            if pod.pointer(MIRROR).is_none() {
                return Err(request.forbidden(&format!("pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods")));
            }
            if bound_to(pod).as_deref() != Some(node) {
                return Err(
                    request.forbidden(&format!("node {node:?} can only create pods with spec.nodeName set to itself"))
                );
            }
        }
        (Operation::Update, "status") | (Operation::Delete, "") => {
            let owner = old.and_then(bound_to);
            if owner.as_deref() != Some(node) {
                let what = if request.operation == Operation::Delete { "delete" } else { "update status for" };
                let text = format!("node {node:?} can only {what} pods with spec.nodeName set to itself");
                return Err(request.forbidden(&text));
            }
        }
        (Operation::Create, "eviction") => {
            let pod = lister.get_fresh("", "pods", &request.namespace, &request.name).await?;
            if pod.and_then(|pod| bound_to(&pod)).as_deref() != Some(node) {
                let text = format!("node {node:?} can only evict pods with spec.nodeName set to itself");
                return Err(request.forbidden(&text));
            }
        }
        (_, subresource) => {
            let text = format!(
                "unexpected operation on pods/{subresource}, node {node:?} can only create and delete mirror pods"
            );
            return Err(request.forbidden(&text));
        }
    }
    Ok(())
}
