//! The rules of resource requests and limits.

use keelstone_machinery::field::Causes;
use keelstone_machinery::quantity::Quantity;
use serde_json::Value;

use crate::check;
use crate::json::{at, entries};

const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const HUGE_PAGES: &str = "hugepages-";

pub fn check(resources: &Value, path: &str, causes: &mut Causes) {
    for list in ["limits", "requests"] {
        for (name, amount) in entries(resources, list) {
            let path = format!("{path}.{list}[{name}]");
            check_name(name, &path, causes);
            let quantity = check::quantity(causes, &path, amount);
            if name.contains('/') && quantity.is_some_and(|q| q.milli() % 1000 != 0) {
                check::invalid(causes, &path, amount, "must be an integer");
            }
        }
    }
    for (name, amount) in entries(resources, "requests") {
        compare(resources, path, name, amount, causes);
    }
}

/// Resources of the system have plain names, all others a domain.
fn check_name(name: &str, path: &str, causes: &mut Causes) {
    check::qualified_name(causes, path, name);
    if !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with(HUGE_PAGES) {
        check::invalid(causes, path, &name.into(), "must be a standard resource type or fully qualified");
        check::invalid(causes, path, &name.into(), "must be a standard resource for containers");
    }
}

fn compare(resources: &Value, path: &str, name: &str, amount: &Value, causes: &mut Causes) {
    let can_exceed = STANDARD.contains(&name);
    let limit = at(resources, "limits").get(name);
    let Some(limit) = limit else {
        if !can_exceed {
            let detail = "Limit must be set for non overcommitable resources";
            check::required(causes, &format!("{path}.limits"), detail);
        }
        return;
    };
    let (Ok(request), Ok(limit)) = (Quantity::from_value(amount), Quantity::from_value(limit)) else { return };
    let path = format!("{path}.requests");
    if !can_exceed && request != limit {
        let detail = format!("must be equal to {name} limit of {limit}");
        check::invalid(causes, &path, &request.to_string().into(), &detail);
    } else if request > limit {
        let detail = format!("must be less than or equal to {name} limit of {limit}");
        check::invalid(causes, &path, &request.to_string().into(), &detail);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::container_errors;
    use serde_json::{json, Value};

    fn resources(value: Value) -> Vec<String> {
        container_errors("resources", value)
    }

    #[test]
    fn amounts() {
        assert!(resources(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}})).is_empty());
        assert_eq!(
            resources(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}})),
            vec!["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"]
        );
        assert_eq!(
            resources(json!({"requests": {"cpu": "-1"}})),
            vec![
                "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"
            ]
        );
        assert_eq!(resources(json!({"requests": {"cpu": "x"}})).len(), 1);
        assert!(resources(json!({"requests": {"cpu": 1}})).is_empty());
    }

    #[test]
    fn names() {
        assert_eq!(resources(json!({"requests": {"gpu": "1"}, "limits": {"gpu": "1"}})).len(), 4);
        assert!(resources(json!({"requests": {"a.b/gpu": "1"}, "limits": {"a.b/gpu": "1"}})).is_empty());
        assert_eq!(
            resources(json!({"requests": {"a.b/gpu": "1"}})),
            vec!["spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"]
        );
        assert_eq!(resources(json!({"limits": {"a.b/gpu": "1500m"}})).len(), 1);
    }
}
