use crate::gvk::{GroupResource, GroupVersionKind, GroupVersionResource};

/// What discovery, OpenAPI and the routes need to know of a served resource.
#[derive(Clone, Debug)]
pub struct ResourceInfo {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    /// `all` makes `kubectl get all` list it.
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [SubresourceInfo],
}

/// A subresource: `deployments/scale`.
#[derive(Clone, Debug)]
pub struct SubresourceInfo {
    /// The path segment: `status`, `scale`, `binding`, `eviction`, `log`, `token`.
    pub name: &'static str,
    /// Group, version and kind of the bodies: `autoscaling/v1 Scale` for `scale`.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

impl ResourceInfo {
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group, self.version, self.kind)
    }

    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(self.group, self.version, self.plural)
    }

    pub fn group_resource(&self) -> GroupResource {
        self.gvr().group_resource()
    }

    pub fn subresource(&self, name: &str) -> Option<&SubresourceInfo> {
        self.subresources.iter().find(|s| s.name == name)
    }
}
