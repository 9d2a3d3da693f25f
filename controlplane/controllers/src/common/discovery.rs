use std::collections::BTreeSet;

use http::Method;
use keelstone_client::{Client, ClientResult};
use keelstone_machinery::gvk::GroupVersionResource;
use serde_json::Value;

/// A resource that the API serves, in its group's preferred version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServedResource {
    pub gvr: GroupVersionResource,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: BTreeSet<String>,
}

impl ServedResource {
    pub fn allows(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.contains(*verb))
    }
}

/// What discovery says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Without subresources; one entry for each group and resource.
    pub resources: Vec<ServedResource>,
    /// Group versions that could not be asked, with the error.
    pub failed: Vec<(String, String)>,
}

/// Asks the API what it serves.
///
/// # Errors
/// If the lists of groups cannot be read; a single group that fails is only noted.
pub async fn served(client: &Client) -> ClientResult<Served> {
    let core: Value = client.call(Method::GET, "/api", None).await?;
    let groups: Value = client.call(Method::GET, "/apis", None).await?;
    let mut served = Served::default();
    let mut seen = BTreeSet::new();
    for (group, version) in versions(&core, &groups) {
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        match client.call::<Value>(Method::GET, &root, None).await {
            Ok(list) => {
                let fresh = resources(&group, &version, &list);
                served.resources.extend(fresh.into_iter().filter(|r| seen.insert(r.gvr.group_resource().to_string())));
            }
            Err(error) => served.failed.push((root, error.to_string())),
        }
    }
    served.resources.sort();
    Ok(served)
}

/// Groups with their versions, the preferred one first.
fn versions(core: &Value, groups: &Value) -> Vec<(String, String)> {
    let texts = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> = list(core, "versions").map(|version| (String::new(), texts(version))).collect();
    for group in list(groups, "groups") {
        let name = texts(&group["name"]);
        let preferred = texts(&group["preferredVersion"]["version"]);
        let mut versions: Vec<_> = list(group, "versions").map(|version| texts(&version["version"])).collect();
        versions.sort_by_key(|version| *version != preferred);
        all.extend(versions.into_iter().map(|version| (name.clone(), version)));
    }
    all
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn resources(group: &str, version: &str, answer: &Value) -> Vec<ServedResource> {
    let entries = list(answer, "resources").filter_map(|entry| {
        let name = entry["name"].as_str().filter(|name| !name.contains('/'))?;
        Some(ServedResource {
            gvr: GroupVersionResource::new(group, version, name),
            kind: entry["kind"].as_str()?.to_owned(),
            namespaced: entry["namespaced"].as_bool()?,
            verbs: list(entry, "verbs").filter_map(|verb| verb.as_str().map(str::to_owned)).collect(),
        })
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_preferred_version_comes_first_and_subresources_are_left_out() {
        let groups = json!({"groups": [{"name": "apps", "preferredVersion": {"version": "v1"},
            "versions": [{"version": "v1beta1"}, {"version": "v1"}]}]});
        let order = versions(&json!({"versions": ["v1"]}), &groups);
        let order: Vec<_> = order.iter().map(|(group, version)| format!("{group}/{version}")).collect();
        assert_eq!(order, ["/v1", "apps/v1", "apps/v1beta1"]);
        let answer = json!({"resources": [
            {"name": "pods", "kind": "Pod", "namespaced": true, "verbs": ["get", "list", "watch", "delete"]},
            {"name": "pods/log", "kind": "Pod", "namespaced": true, "verbs": ["get"]}]});
        let found = resources("", "v1", &answer);
        assert_eq!(found.len(), 1);
        assert!(found[0].allows(&["list", "watch"]) && !found[0].allows(&["deletecollection"]));
    }
}
