//! DefaultTolerationSeconds and Priority.

use std::sync::Arc;

use keelstone_machinery::status::ApiResult;
use serde_json::{json, Value};

use super::{AdmissionConfig, Request};
use crate::Lister;

/// Pods stay for a while on nodes that are not ready or not reachable, unless they say how long themselves.
pub(super) fn add_tolerations(pod: &mut Value, config: &AdmissionConfig) {
    let spec = &mut pod["spec"];
    if !spec.is_object() {
        return;
    }
    let wanted = [
        ("node.kubernetes.io/not-ready", config.not_ready_toleration_s),
        ("node.kubernetes.io/unreachable", config.unreachable_toleration_s),
    ];
    let mut list = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for (key, seconds) in wanted {
        if !list.iter().any(|toleration| tolerates(toleration, key)) {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}));
        }
    }
    spec["tolerations"] = Value::Array(list);
}

fn tolerates(toleration: &Value, key: &str) -> bool {
    let text = |name: &str| toleration[name].as_str().unwrap_or_default();
    let effect_matches = text("effect").is_empty() || text("effect") == "NoExecute";
    effect_matches && (text("key") == key || text("key").is_empty())
}

/// Turns the class's name into a number. Without a class: the default class, or 0.
pub(super) async fn add_priority(request: &Request, pod: &mut Value, lister: &Arc<dyn Lister>) -> ApiResult<()> {
    const GROUP: &str = "scheduling.k8s.io";
    let spec = &mut pod["spec"];
    if !spec.is_object() {
        return Ok(());
    }
    let name = spec["priorityClassName"].as_str().unwrap_or_default().to_owned();
    let (class, value) = match name.as_str() {
        "system-node-critical" => (None, 2_000_001_000),
        "system-cluster-critical" => (None, 2_000_000_000),
        "" => {
            let classes = lister.list(GROUP, "priorityclasses", None);
            let default = classes.into_iter().find(|class| class["globalDefault"] == true);
            let value = default.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or(0);
            if let Some(class) = &default {
                spec["priorityClassName"] = class["metadata"]["name"].clone();
            }
            (default, value)
        }
        name => {
            let class = match lister.get(GROUP, "priorityclasses", "", name) {
                Some(class) => Some(class),
                None => lister.get_fresh(GROUP, "priorityclasses", "", name).await?,
            };
            let Some(class) = class else {
                return Err(request.forbidden(&format!("no PriorityClass with name {name} was found")));
            };
            let value = class["value"].as_i64().unwrap_or(0);
            (Some(class), value)
        }
    };
    let given = spec["priority"].as_i64();
    if given.is_some_and(|given| given != value) {
        let text = "the integer value of priority must not be provided in pod spec; priority admission controller \
                    computed {} from the given PriorityClass name";
        return Err(request.forbidden(&text.replace("{}", &value.to_string())));
    }
    spec["priority"] = json!(value);
    if spec["preemptionPolicy"].is_null() {
        let policy = class.as_ref().and_then(|c| c["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority");
        spec["preemptionPolicy"] = json!(policy);
    }
    Ok(())
}
