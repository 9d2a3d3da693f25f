use keelstone_access::authz::{bootstrap_objects, BootstrapObject};
use keelstone_machinery::{meta, status::ApiResult};
use serde_json::{json, Value};

use super::ApiCaller;
use crate::config::ServiceCidr;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// An operator sets this to "false" on a role that is to stay as it is.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Creates what is missing: namespaces, roles and bindings, the `kubernetes` Service.
///
/// # Errors
/// The first Status that is not "already there".
pub async fn ensure(caller: &ApiCaller, cidr: ServiceCidr) -> ApiResult<()> {
    for name in NAMESPACES {
        if caller.read(&format!("/api/v1/namespaces/{name}")).await?.is_none() {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            create(caller, "/api/v1/namespaces", &namespace).await?;
        }
    }
    for wanted in bootstrap_objects() {
        ensure_role(caller, &wanted).await?;
    }
    ensure_service(caller, cidr).await
}

/// Creates an object; that another master was faster is as good.
async fn create(caller: &ApiCaller, path: &str, object: &Value) -> ApiResult<()> {
    match caller.create(path, object).await {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

async fn ensure_role(caller: &ApiCaller, wanted: &BootstrapObject) -> ApiResult<()> {
    let collection = match wanted.namespace {
        "" => format!("{RBAC}/{}", wanted.resource),
        namespace => format!("{RBAC}/namespaces/{namespace}/{}", wanted.resource),
    };
    let path = format!("{collection}/{}", meta::name(&wanted.object));
    let Some(mut stored) = caller.read(&path).await? else {
        return create(caller, &collection, &wanted.object).await;
    };
    if meta::annotation(&stored, AUTOUPDATE) == Some("false") {
        return Ok(());
    }
    if merge(&mut stored, &wanted.object) {
        match caller.update(&path, &stored).await {
            // Another master did the same, or the next round does it.
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
            Ok(_) => tracing::info!(name = meta::name(&stored), "bootstrap role brought up to date"),
        }
    }
    Ok(())
}

/// Adds to a stored role or binding the rules and subjects that it lacks; never takes any away. True if that
/// changed it.
fn merge(stored: &mut Value, wanted: &Value) -> bool {
    let before = stored.clone();
    // A controller may write an aggregated role's rules anew: they follow from its selectors.
    let lists: &[&str] = if wanted.get("aggregationRule").is_some() { &["subjects"] } else { &["rules", "subjects"] };
    for key in lists {
        let Some(wanted) = wanted.get(*key).and_then(Value::as_array) else { continue };
        let mut list = stored[*key].as_array().cloned().unwrap_or_default();
        for item in wanted {
            if !list.contains(item) {
                list.push(item.clone());
            }
        }
        if !list.is_empty() {
            stored[*key] = Value::Array(list);
        }
    }
    if let Some(rule) = wanted.get("aggregationRule") {
        stored["aggregationRule"] = rule.clone();
    }
    for (key, value) in meta::labels(wanted) {
        meta::set_label(stored, key, Some(value));
    }
    before != *stored
}

async fn ensure_service(caller: &ApiCaller, cidr: ServiceCidr) -> ApiResult<()> {
    if caller.read("/api/v1/namespaces/default/services/kubernetes").await?.is_some() {
        return Ok(());
    }
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": cidr.first().to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
    });
    create(caller, "/api/v1/namespaces/default/services", &service).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_added_stays() {
        let wanted = json!({"metadata": {"name": "r", "labels": {"a": "b"}}, "rules": [{"verbs": ["get"]}]});
        let mut stored = json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["list"]}]});
        assert!(merge(&mut stored, &wanted));
        assert_eq!(stored["rules"], json!([{"verbs": ["list"]}, {"verbs": ["get"]}]));
        assert_eq!(meta::label(&stored, "a"), Some("b"));
        assert!(!merge(&mut stored, &wanted));
    }
}
