//! The subresource `eviction` of pods: a deletion that says why. Pure; the caller deletes. Disruption budgets
//! are not served, so none can refuse.

use keelstone_machinery::meta;
use keelstone_machinery::status::{ApiResult, ApiStatus};
use serde_json::{json, Value};

use crate::conditions;
use crate::json::{at, has, text};
use crate::pod_is_finished;

/// Checks the body of an eviction of the pod `name`, and gives its deleteOptions (`Null` if it has none).
///
/// # Errors
/// 400 if the body names another pod.
pub fn validate<'a>(eviction: &'a Value, name: &str) -> ApiResult<&'a Value> {
    let given = text(eviction, "metadata.name");
    if !given.is_empty() && given != name {
        return Err(ApiStatus::bad_request("name in URL does not match name in Eviction object"));
    }
    Ok(at(eviction, "deleteOptions"))
}

/// True if the pod's status has to say, before it is deleted, that it was evicted: it still has work to lose.
pub fn must_mark(pod: &Value) -> bool {
    !pod_is_finished(pod) && text(pod, "status.phase") != "Pending" && !has(pod, "metadata.deletionTimestamp")
}

/// Writes into the pod's status why it goes.
pub fn mark(pod: &mut Value, now_unix_s: i64) {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastTransitionTime": meta::rfc3339_from_unix(now_unix_s),
    });
    conditions::put(pod, condition);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        let body = json!({"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 5}});
        assert_eq!(validate(&body, "p").map(|o| o["gracePeriodSeconds"].clone()), Ok(json!(5)));
        assert_eq!(validate(&body, "q").map_err(|e| e.code), Err(400));
        assert_eq!(validate(&json!({}), "q"), Ok(&Value::Null));
    }

    #[test]
    fn running_pods_say_why_they_go() {
        let mut pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Running"}});
        assert!(must_mark(&pod));
        mark(&mut pod, 0);
        assert_eq!(pod["status"]["conditions"][0]["reason"], "EvictionByEvictionAPI");
        assert!(!must_mark(&json!({"status": {"phase": "Failed"}})));
        assert!(!must_mark(&json!({"status": {"phase": "Pending"}})));
    }
}
