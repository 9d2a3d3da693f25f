use http::Method;
use keelstone_access::{Attributes, User};
use keelstone_machinery::selector::FieldSelector;

use crate::query::{decode, Query};

/// What a request is about, read from its method and path alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// False for paths such as `/healthz` and `/apis`.
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case method
    /// for paths that are not resources.
    pub verb: String,
    pub path: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource (paths of proxies).
    pub rest: Vec<String>,
}

/// Subresources of a namespace; anything else after its name is a resource inside it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Never fails: what is not a resource's path is a plain path.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let plain = Self { verb: method.as_str().to_lowercase(), path: path.to_owned(), ..Self::default() };
        let parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(|p| decode(p, false)).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return plain,
        };
        let mut info = Self { is_resource: true, group: group.into(), version: version.into(), ..plain };
        let (forced_watch, rest) = match rest {
            // The deprecated form of a watch: /api/v1/watch/pods.
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            rest => (false, rest),
        };
        info.read_path(rest);
        info.read_verb(method, query, forced_watch);
        info
    }

    fn read_path(&mut self, parts: &[&str]) {
        let parts = match parts {
            ["namespaces", namespace, rest @ ..] => {
                self.namespace = (*namespace).into();
                match rest {
                    [first, ..] if !NAMESPACE_SUBRESOURCES.contains(first) => rest,
                    _ => parts,
                }
            }
            parts => parts,
        };
        let part = |i: usize| parts.get(i).map(|p| (*p).to_owned()).unwrap_or_default();
        (self.resource, self.name, self.subresource) = (part(0), part(1), part(2));
        self.rest = parts.iter().skip(3).map(|p| (*p).to_owned()).collect();
    }

    fn read_verb(&mut self, method: &Method, query: &Query, forced_watch: bool) {
        self.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => return,
        }
        .to_owned();
        let watch = forced_watch || query.flag("watch");
        if self.verb == "get" && (self.name.is_empty() || forced_watch) {
            self.verb = if watch { "watch" } else { "list" }.into();
            if self.name.is_empty() {
                // Rules with resourceNames also hold for a list of that one name.
                let selected = FieldSelector::parse(query.get("fieldSelector")).ok();
                let selected = selected.as_ref().and_then(|s| s.required("metadata.name"));
                self.name = selected.unwrap_or_default().to_owned();
            }
        }
        if self.verb == "delete" && self.name.is_empty() {
            self.verb = "deletecollection".into();
        }
    }

    /// True if the request may run for as long as its client listens.
    pub fn is_long_running(&self, query: &Query) -> bool {
        self.is_resource
            && (self.verb == "watch"
                || (self.subresource == "log" && query.flag("follow"))
                || ["exec", "attach", "portforward", "proxy"].contains(&self.subresource.as_str()))
    }

    /// True if the request only reads.
    pub fn is_read(&self) -> bool {
        ["get", "list", "watch", "head", "options"].contains(&self.verb.as_str())
    }

    /// The request as authorization sees it.
    pub fn attributes(&self, user: &User) -> Attributes {
        Attributes {
            user: user.clone(),
            verb: self.verb.clone(),
            is_resource: self.is_resource,
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.resource.clone(),
            subresource: self.subresource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            path: self.path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, url: &str) -> RequestInfo {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        RequestInfo::parse(&method, path, &Query::parse(query))
    }

    /// verb, group, namespace, resource, name, subresource.
    fn summary(info: &RequestInfo) -> [&str; 6] {
        [&info.verb, &info.group, &info.namespace, &info.resource, &info.name, &info.subresource]
    }

    #[test]
    fn resources_are_read_from_paths() {
        let cases = [
            (Method::GET, "/api/v1/namespaces", ["list", "", "", "namespaces", "", ""]),
            (Method::GET, "/api/v1/namespaces/x", ["get", "", "x", "namespaces", "x", ""]),
            (Method::PUT, "/api/v1/namespaces/x/finalize", ["update", "", "x", "namespaces", "x", "finalize"]),
            (Method::GET, "/api/v1/namespaces/x/pods", ["list", "", "x", "pods", "", ""]),
            (Method::GET, "/api/v1/namespaces/x/pods?watch=true", ["watch", "", "x", "pods", "", ""]),
            (Method::GET, "/api/v1/watch/namespaces/x/pods/p", ["watch", "", "x", "pods", "p", ""]),
            (Method::GET, "/api/v1/pods?fieldSelector=metadata.name%3Dp", ["list", "", "", "pods", "p", ""]),
            (Method::POST, "/api/v1/namespaces/x/pods/p/binding", ["create", "", "x", "pods", "p", "binding"]),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/x/deployments/d/scale",
                ["patch", "apps", "x", "deployments", "d", "scale"],
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/x/deployments",
                ["deletecollection", "apps", "x", "deployments", "", ""],
            ),
            (Method::DELETE, "/api/v1/nodes/n", ["delete", "", "", "nodes", "n", ""]),
        ];
        for (method, url, wanted) in cases {
            let info = parse(method, url);
            assert!(info.is_resource, "{url}");
            assert_eq!(summary(&info), wanted, "{url}");
        }
    }

    #[test]
    fn other_paths_are_plain() {
        for url in ["/", "/healthz", "/api", "/api/v1", "/apis/apps/v1", "/openapi/v3/apis/apps/v1"] {
            let info = parse(Method::GET, url);
            assert!(!info.is_resource, "{url}");
            assert_eq!(info.verb, "get");
            assert_eq!(info.path, url);
        }
    }

    #[test]
    fn watches_and_followed_logs_run_long() {
        let long = |url: &str| {
            let query = Query::parse(url.split_once('?').map_or("", |(_, q)| q));
            parse(Method::GET, url).is_long_running(&query)
        };
        assert!(long("/api/v1/pods?watch=1"));
        assert!(long("/api/v1/namespaces/x/pods/p/log?follow=true"));
        assert!(!long("/api/v1/namespaces/x/pods/p/log"));
        assert!(!long("/api/v1/pods"));
    }
}
