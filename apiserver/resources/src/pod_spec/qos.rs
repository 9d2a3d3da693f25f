//! The quality of service class of a pod (document "Pod Quality of Service Classes").

use keelstone_machinery::quantity::Quantity;
use serde_json::Value;

use crate::json::{at, items, text};

/// `Guaranteed`, `Burstable` or `BestEffort`, from the cpu and memory of all containers.
pub fn class(spec: &Value) -> &'static str {
    let (mut any, mut all_guaranteed) = (false, true);
    for container in items(spec, "initContainers").iter().chain(items(spec, "containers")) {
        for resource in ["cpu", "memory"] {
            let limit = amount(container, "limits", resource);
            let request = amount(container, "requests", resource).or(limit);
            any |= limit.is_some() || request.is_some();
            all_guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, all_guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The amount if set and above zero.
fn amount(container: &Value, list: &str, resource: &str) -> Option<Quantity> {
    let amounts = at(container, "resources").get(list)?;
    let zero = Quantity::parse("0").ok()?;
    Quantity::parse(text(amounts, resource)).ok().filter(|q| *q > zero)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let of = |resources: Value| class(&json!({"containers": [{"resources": resources}]}));
        assert_eq!(of(json!({})), "BestEffort");
        assert_eq!(of(json!({"requests": {"cpu": "0"}})), "BestEffort");
        assert_eq!(of(json!({"requests": {"cpu": "1"}})), "Burstable");
        assert_eq!(of(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
        let same = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        assert_eq!(of(same), "Guaranteed");
    }
}
