//! Discovery: which groups, versions and resources are served, in the plain and the aggregated form. All
//! documents are made once, at the start.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{header, HeaderValue, Response, StatusCode};
use indexmap::IndexMap;
use keelstone_machinery::{gvk, ResourceInfo, SubresourceInfo};
use serde_json::{json, Map, Value};
use sha2::{Digest, Sha512};

use crate::{body::Body, negotiate, respond};

/// The groups in the order in which clients should prefer them; others follow by name.
const GROUP_ORDER: [&str; 14] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
];

/// The discovery documents.
pub struct Discovery {
    plain: BTreeMap<String, Value>,
    /// By root (`/api`, `/apis`) and version of the aggregated form.
    aggregated: BTreeMap<(String, &'static str), Aggregated>,
}

struct Aggregated {
    document: Bytes,
    etag: String,
}

impl Discovery {
    /// `address` is what `/api` names as the server's address (`host:port`).
    pub fn new(resources: &[&ResourceInfo], address: &str) -> Self {
        let groups = by_group(resources);
        let mut plain = BTreeMap::new();
        plain.insert("/api".to_owned(), api_versions(address));
        let listed: Vec<Value> =
            groups.iter().filter(|(g, _)| !g.is_empty()).map(|(g, versions)| api_group(g, versions)).collect();
        plain.insert("/apis".to_owned(), json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}));
        for (group, versions) in &groups {
            if !group.is_empty() {
                let mut document = api_group(group, versions);
                document["kind"] = json!("APIGroup");
                document["apiVersion"] = json!("v1");
                plain.insert(format!("/apis/{group}"), document);
            }
            for (version, resources) in versions {
                let path =
                    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
                plain.insert(path, resource_list(group, version, resources));
            }
        }
        let mut aggregated = BTreeMap::new();
        for version in ["v2", "v2beta1"] {
            for root in ["/api", "/apis"] {
                let wanted = groups.iter().filter(|(g, _)| g.is_empty() == (root == "/api"));
                let items: Vec<Value> = wanted.map(|(g, versions)| group_discovery(g, versions)).collect();
                aggregated.insert((root.to_owned(), version), Aggregated::new(version, items));
            }
        }
        Self { plain, aggregated }
    }

    /// The paths that [`Discovery::answer`] knows.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.plain.keys().map(String::as_str)
    }

    /// The answer to a GET of a discovery path; `None` if it is none.
    pub fn answer(&self, path: &str, accept: &str, if_none_match: &str, pretty: bool) -> Option<Response<Body>> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let plain = self.plain.get(path)?;
        if let Some(version) = wanted_version(accept) {
            if let Some(aggregated) = self.aggregated.get(&(path.to_owned(), version)) {
                return Some(aggregated.answer(version, if_none_match));
            }
        }
        let mut response = match negotiate::negotiate(accept, false) {
            Ok(wanted) => {
                let style = respond::Style { encoding: wanted.encoding, pretty };
                respond::object(StatusCode::OK, plain, style)
            }
            // Clients that only name the aggregated forms of the two roots get the plain documents below them.
            Err(_) if accept.contains("apidiscovery.k8s.io") => respond::json(plain, pretty),
            Err(error) => respond::status(&error, respond::Style::default()),
        };
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        Some(response)
    }
}

/// The version of the aggregated form that comes first in the Accept header, unless the plain form does.
fn wanted_version(accept: &str) -> Option<&'static str> {
    for clause in negotiate::clauses(accept) {
        if clause.media_type != "application/json" {
            continue;
        }
        if clause.parameter("as") == "APIGroupDiscoveryList" && clause.parameter("g") == "apidiscovery.k8s.io" {
            match clause.parameter("v") {
                "v2" => return Some("v2"),
                "v2beta1" => return Some("v2beta1"),
                _ => continue,
            }
        }
        if clause.parameter("as").is_empty() {
            return None;
        }
    }
    None
}

impl Aggregated {
    fn new(version: &str, items: Vec<Value>) -> Self {
        let document = json!({
            "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
            "metadata": {}, "items": items,
        });
        let document = respond::to_json(&document, false);
        let hash: String = Sha512::digest(&document).iter().map(|b| format!("{b:02X}")).collect();
        Self { document, etag: format!("\"{hash}\"") }
    }

    fn answer(&self, version: &str, if_none_match: &str) -> Response<Body> {
        let content_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        let content_type = HeaderValue::from_str(&content_type).unwrap_or(HeaderValue::from_static("application/json"));
        let mut response = if if_none_match == self.etag {
            let mut unchanged = Response::new(crate::body::empty());
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged
        } else {
            respond::bytes(StatusCode::OK, content_type, self.document.clone())
        };
        let headers = response.headers_mut();
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(header::ETAG, etag);
        }
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        response
    }
}

type Versions<'a> = IndexMap<&'a str, Vec<&'a ResourceInfo>>;

fn by_group<'a>(resources: &[&'a ResourceInfo]) -> IndexMap<&'a str, Versions<'a>> {
    let mut groups: IndexMap<&str, Versions<'_>> = IndexMap::new();
    for resource in resources {
        groups.entry(resource.group).or_default().entry(resource.version).or_default().push(resource);
    }
    let place = |group: &str| GROUP_ORDER.iter().position(|g| *g == group).unwrap_or(GROUP_ORDER.len());
    groups.sort_by(|a, _, b, _| place(a).cmp(&place(b)).then(a.cmp(b)));
    for versions in groups.values_mut() {
        // Stable versions first: v2 before v1 before v1beta1.
        versions.sort_by(|a, _, b, _| a.contains("beta").cmp(&b.contains("beta")).then(b.cmp(a)));
        for resources in versions.values_mut() {
            resources.sort_by_key(|r| r.plural);
        }
    }
    groups
}

fn api_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

fn api_group(group: &str, versions: &Versions<'_>) -> Value {
    let entry = |version: &&str| json!({"groupVersion": gvk::api_version(group, version), "version": version});
    let all: Vec<Value> = versions.keys().map(entry).collect();
    json!({"name": group, "versions": all, "preferredVersion": all.first()})
}

fn resource_list(group: &str, version: &str, resources: &[&ResourceInfo]) -> Value {
    let mut entries = Vec::new();
    for resource in resources {
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": resource.verbs,
        });
        add_list(&mut entry, "shortNames", resource.short_names);
        add_list(&mut entry, "categories", resource.categories);
        entries.push(entry);
        for sub in resource.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
                "namespaced": resource.namespaced, "kind": sub.kind, "verbs": sub.verbs,
            });
            if (sub.group, sub.version) != (group, version) {
                entry["group"] = json!(sub.group);
                entry["version"] = json!(sub.version);
            }
            entries.push(entry);
        }
    }
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gvk::api_version(group, version),
        "resources": entries,
    })
}

fn group_discovery(group: &str, versions: &Versions<'_>) -> Value {
    let mut metadata = Map::new();
    if !group.is_empty() {
        metadata.insert("name".into(), json!(group));
    }
    metadata.insert("creationTimestamp".into(), Value::Null);
    let version = |(version, resources): (&&str, &Vec<&ResourceInfo>)| {
        json!({
            "version": version, "freshness": "Current",
            "resources": resources.iter().map(|r| resource_discovery(r)).collect::<Vec<_>>(),
        })
    };
    json!({"metadata": metadata, "versions": versions.iter().map(version).collect::<Vec<_>>()})
}

fn resource_discovery(resource: &ResourceInfo) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    add_list(&mut entry, "shortNames", resource.short_names);
    add_list(&mut entry, "categories", resource.categories);
    if !resource.subresources.is_empty() {
        let sub = |s: &SubresourceInfo| {
            json!({
                "subresource": s.name,
                "responseKind": {"group": s.group, "version": s.version, "kind": s.kind},
                "verbs": s.verbs,
            })
        };
        entry["subresources"] = resource.subresources.iter().map(sub).collect();
    }
    entry
}

fn add_list(entry: &mut Value, key: &str, list: &[&str]) {
    if !list.is_empty() {
        entry[key] = json!(list);
    }
}
