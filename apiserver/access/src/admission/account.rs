//! ServiceAccount: every pod runs as an account, and sees its token unless it does not want to.

use std::{sync::Arc, time::Duration};

use keelstone_env::Random;
use keelstone_machinery::status::ApiResult;
use serde_json::{json, Value};

use super::Request;
use crate::{
    constants::{DEFAULT_ACCOUNT_TRIES_MAX, DEFAULT_ACCOUNT_WAIT_MS, POD_TOKEN_S},
    Listed, Lister,
};

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

/// Sets the account's name, its pull secrets and the projected token volume.
pub(super) async fn add_service_account(
    request: &Request,
    pod: &mut Value,
    lister: &Arc<dyn Lister>,
    random: &dyn Random,
) -> ApiResult<()> {
    // A mirror pod only shows what its node runs anyway: nothing is added to it.
    if pod.pointer(MIRROR).is_some() || !pod["spec"].is_object() {
        return Ok(());
    }
    let spec = &mut pod["spec"];
    let named = spec["serviceAccountName"].as_str().filter(|n| !n.is_empty());
    let name =
        named.or_else(|| spec["serviceAccount"].as_str().filter(|n| !n.is_empty())).unwrap_or(DEFAULT).to_owned();
    spec["serviceAccountName"] = json!(name);
    spec["serviceAccount"] = json!(name);
    let Some(account) = find_account(lister, &request.namespace, &name).await? else {
        let text =
            format!("error looking up service account {}/{name}: serviceaccount {name:?} not found", request.namespace);
        return Err(request.forbidden(&text));
    };
    let wanted = |value: Option<&Value>| value.and_then(Value::as_bool);
    let automount = wanted(spec.get("automountServiceAccountToken"))
        .or_else(|| wanted(account.get("automountServiceAccountToken")))
        .unwrap_or(true);
    if automount {
        mount_token(spec, random);
    }
    let has_secrets = spec["imagePullSecrets"].as_array().is_some_and(|list| !list.is_empty());
    if let (false, Some(secrets)) = (has_secrets, account.get("imagePullSecrets")) {
        spec["imagePullSecrets"] = secrets.clone();
    }
    Ok(())
}

/// The account; a new namespace's `default` is waited for a moment, because a controller makes it.
async fn find_account(lister: &Arc<dyn Lister>, namespace: &str, name: &str) -> ApiResult<Option<Listed>> {
    let tries = if name == DEFAULT { DEFAULT_ACCOUNT_TRIES_MAX } else { 1 };
    for attempt in 0..tries {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(DEFAULT_ACCOUNT_WAIT_MS)).await;
        }
        let found = match lister.get("", "serviceaccounts", namespace, name) {
            Some(found) => Some(found),
            None => lister.get_fresh("", "serviceaccounts", namespace, name).await?,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn mount_token(spec: &mut Value, random: &dyn Random) {
    let existing = spec["volumes"].as_array().into_iter().flatten().filter_map(|v| v["name"].as_str());
    let existing = existing.filter(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned).next();
    let volume_name = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", suffix(random)));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            mounted |= mount_into(container, &volume_name);
        }
    }
    if !mounted || existing.is_some() {
        return;
    }
    let volume = json!({
        "name": volume_name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": POD_TOKEN_S, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{
                    "path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    });
    push(spec, "volumes", volume);
}

/// Mounts the volume unless something is mounted there already; true if it did.
fn mount_into(container: &mut Value, volume: &str) -> bool {
    let taken = container["volumeMounts"].as_array().into_iter().flatten().any(|m| m["mountPath"] == MOUNT_PATH);
    if taken || !container.is_object() {
        return false;
    }
    push(container, "volumeMounts", json!({"name": volume, "mountPath": MOUNT_PATH, "readOnly": true}));
    true
}

fn push(object: &mut Value, key: &str, item: Value) {
    match object.get_mut(key).and_then(Value::as_array_mut) {
        Some(list) => list.push(item),
        None => object[key] = json!([item]),
    }
}

/// Five characters of the alphabet that generated names use.
fn suffix(random: &dyn Random) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bytes = [0u8; 5];
    random.fill(&mut bytes);
    bytes.iter().map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect()
}
