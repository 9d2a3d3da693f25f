//! (15) The pods of a node never ask for more than the node has.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    objects::{cpu_millis, is_finished, text, Change, Story},
    Violation,
};

/// # Errors
/// The first node that has too much, in thousandths of a core.
pub fn check(changes: &[Change]) -> Result<(), Violation> {
    let mut nodes: BTreeMap<String, i64> = BTreeMap::new();
    // By name: node and request.
    let mut pods: BTreeMap<String, (String, i64)> = BTreeMap::new();
    let mut story = Story::default();
    for change in changes {
        match (change.resource.as_str(), &change.object) {
            ("nodes", Some(node)) => {
                nodes.insert(change.name.clone(), cpu_millis(&node["status"]["allocatable"]["cpu"]));
            }
            ("pods", Some(pod)) if !is_finished(pod) => {
                let placed = (text(&pod["spec"]["nodeName"]).to_owned(), request(pod));
                if pods.get(&change.name) == Some(&placed) {
                    continue;
                }
                story.tell(change.revision, &format!("{} asks for {}m on {:?}", change.name, placed.1, placed.0));
                pods.insert(change.name.clone(), placed.clone());
                check_node(&placed.0, &nodes, &pods, change.revision, &story)?;
            }
            ("pods", _) => {
                story.tell(change.revision, &format!("{} is over", change.name));
                pods.remove(&change.name);
            }
            _ => {}
        }
    }
    Ok(())
}

fn request(pod: &Value) -> i64 {
    let containers = pod["spec"]["containers"].as_array();
    containers.into_iter().flatten().map(|c| cpu_millis(&c["resources"]["requests"]["cpu"])).sum()
}

fn check_node(
    node: &str,
    nodes: &BTreeMap<String, i64>,
    pods: &BTreeMap<String, (String, i64)>,
    revision: i64,
    story: &Story,
) -> Result<(), Violation> {
    let Some(has) = nodes.get(node).copied().filter(|has| *has > 0) else { return Ok(()) };
    let asked: i64 = pods.values().filter(|(n, _)| n == node).map(|(_, request)| request).sum();
    if asked <= has {
        return Ok(());
    }
    let what = format!("at revision {revision} the pods of {node} ask for {asked}m, it has {has}m");
    Err(Violation::new("no node overcommitted (15)", story.after(&what)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::tests::{gone, set};

    fn pod(revision: i64, name: &str, node: &str) -> Change {
        let containers = json!([{"resources": {"requests": {"cpu": "400m"}}}]);
        set(revision, "pods", name, json!({"spec": {"nodeName": node, "containers": containers}}))
    }

    #[test]
    fn a_node_that_has_too_much_is_told() {
        let mut node = set(1, "nodes", "n", json!({"status": {"allocatable": {"cpu": "1"}}}));
        node.name = "n".into();
        let mut log = vec![node, pod(2, "a", "n"), pod(3, "b", "n"), pod(4, "c", "")];
        assert_eq!(check(&log), Ok(()));
        let mut left = log.clone();
        left.extend([gone(5, "pods", "a"), pod(6, "c", "n")]);
        assert_eq!(check(&left), Ok(()));
        log.push(pod(5, "c", "n"));
        assert!(check(&log).is_err());
    }
}
