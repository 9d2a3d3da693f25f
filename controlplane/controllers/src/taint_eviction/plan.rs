use std::time::Duration;

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::common::clock;

/// How long a pod may stay on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    Forever,
    /// From the moment on at which the taints were seen.
    For(Duration),
}

/// The stay that a pod's tolerations allow under a node's taints. Only NoExecute taints count. A pod that does
/// not tolerate one of them must go; else the shortest `tolerationSeconds` of those that are used counts.
pub fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    let mut shortest: Option<Duration> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let mut used = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        if used.peek().is_none() {
            return Stay::For(Duration::ZERO);
        }
        for limit in used.filter_map(|toleration| toleration.toleration_seconds) {
            let limit = clock::seconds(limit);
            shortest = Some(shortest.map_or(limit, |shortest| shortest.min(limit)));
        }
    }
    shortest.map_or(Stay::Forever, Stay::For)
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    let fits = (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key);
    match text(&toleration.operator).as_str() {
        "Exists" => fits,
        "" | "Equal" => fits && !key.is_empty() && text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, Value};

    fn stays(taints: Value, tolerations: Value) -> Stay {
        let taints: Vec<Taint> = serde_json::from_value(taints).unwrap();
        let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
        stay(&taints, &tolerations)
    }

    #[test]
    fn the_shortest_toleration_counts() {
        let lost = json!([{"key": "k", "effect": "NoExecute"}, {"key": "soft", "effect": "NoSchedule"}]);
        assert_eq!(stays(json!([]), json!([])), Stay::Forever);
        assert_eq!(stays(json!([{"key": "soft", "effect": "NoSchedule"}]), json!([])), Stay::Forever);
        assert_eq!(stays(lost.clone(), json!([])), Stay::For(Duration::ZERO));
        assert_eq!(stays(lost.clone(), json!([{"operator": "Exists"}])), Stay::Forever);
        let two = json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 300},
            {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20}]);
        assert_eq!(stays(lost.clone(), two), Stay::For(Duration::from_secs(20)));
        let negative = json!([{"key": "k", "operator": "Exists", "tolerationSeconds": -5}]);
        assert_eq!(stays(lost.clone(), negative), Stay::For(Duration::ZERO));
        let other = json!([{"key": "k", "operator": "Equal", "value": "x"}]);
        assert_eq!(stays(lost, other), Stay::For(Duration::ZERO));
    }
}
