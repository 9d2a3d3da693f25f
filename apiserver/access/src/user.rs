use std::collections::BTreeMap;

use keelstone_env::Identity;
use serde_json::{json, Value};

/// The group of everybody who authenticated.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who did not.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of a request without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that may do everything, whatever the stored roles say: the way back in.
pub const MASTERS: &str = "system:masters";
/// The group of node agents; their names start with [`NODE_USER_PREFIX`].
pub const NODES_GROUP: &str = "system:nodes";
pub const NODE_USER_PREFIX: &str = "system:node:";
/// The group of all service accounts.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
pub const SERVICE_ACCOUNT_USER_PREFIX: &str = "system:serviceaccount:";
/// The identity that the API server's own loops use.
pub const API_SERVER_USER: &str = "system:apiserver";

/// Who sends a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|g| (*g).into()).collect(), ..Self::default() }
    }

    /// The user of a request that showed no credentials.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[ALL_UNAUTHENTICATED])
    }

    /// The API server itself.
    pub fn api_server() -> Self {
        Self::new(API_SERVER_USER, &[MASTERS, ALL_AUTHENTICATED])
    }

    /// The user of a verified certificate: common name and organizations.
    pub fn from_certificate(identity: &Identity) -> Self {
        let mut user =
            Self { name: identity.common_name.clone(), groups: identity.organizations.clone(), ..Self::default() };
        user.add_group(ALL_AUTHENTICATED);
        user
    }

    /// The user of a service account.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{name}"),
            uid: uid.into(),
            groups: vec![SERVICE_ACCOUNTS.into(), format!("{SERVICE_ACCOUNTS}:{namespace}"), ALL_AUTHENTICATED.into()],
            extra: BTreeMap::new(),
        }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Adds a group once.
    pub fn add_group(&mut self, group: &str) {
        if !self.in_group(group) {
            self.groups.push(group.into());
        }
    }

    /// The node's name, if the user is a node agent.
    pub fn node_name(&self) -> Option<&str> {
        self.in_group(NODES_GROUP).then(|| self.name.strip_prefix(NODE_USER_PREFIX)).flatten()
    }

    /// Namespace and name, if the user is a service account.
    pub fn service_account_name(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)?.split_once(':')
    }

    /// `authentication.k8s.io/v1 UserInfo`.
    pub fn to_user_info(&self) -> Value {
        let mut info = serde_json::Map::new();
        info.insert("username".into(), json!(self.name));
        if !self.uid.is_empty() {
            info.insert("uid".into(), json!(self.uid));
        }
        if !self.groups.is_empty() {
            info.insert("groups".into(), json!(self.groups));
        }
        if !self.extra.is_empty() {
            info.insert("extra".into(), json!(self.extra));
        }
        Value::Object(info)
    }
}
