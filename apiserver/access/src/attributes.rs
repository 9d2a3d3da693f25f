use keelstone_machinery::{gvk::GroupResource, status::ApiStatus};

use crate::User;

/// What a request wants to do, as authorization sees it.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    pub user: User,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case HTTP
    /// method for paths that are not resources; special verbs (`bind`, `escalate`, `impersonate`).
    pub verb: String,
    /// False for paths such as `/healthz`.
    pub is_resource: bool,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    /// Empty at cluster scope.
    pub namespace: String,
    pub name: String,
    pub path: String,
}

impl Attributes {
    /// Attributes of a request on a resource.
    pub fn resource(user: &User, verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            user: user.clone(),
            verb: verb.into(),
            is_resource: true,
            group: group.into(),
            version: "*".into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Self::default()
        }
    }

    /// `pods`, or `pods/log`.
    pub fn combined_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// What the user cannot do, in the words of Kubernetes' API server.
    pub fn forbidden_message(&self) -> String {
        let (user, verb) = (&self.user.name, &self.verb);
        if !self.is_resource {
            return format!("User {user:?} cannot {verb} path {:?}", self.path);
        }
        let what = format!(
            "User {user:?} cannot {verb} resource {:?} in API group {:?}",
            self.combined_resource(),
            self.group
        );
        if self.namespace.is_empty() {
            format!("{what} at the cluster scope")
        } else {
            format!("{what} in the namespace {:?}", self.namespace)
        }
    }

    /// The 403 answer; `reason` is the authorizer's, often empty.
    pub fn forbidden(&self, reason: &str) -> ApiStatus {
        let mut message = self.forbidden_message();
        if !reason.is_empty() {
            message = format!("{message}: {reason}");
        }
        let resource = GroupResource { group: self.group.clone(), resource: self.resource.clone() };
        ApiStatus::forbidden(&resource, &self.name, &message)
    }
}
