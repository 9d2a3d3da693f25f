//! Users and roles as etcd keeps them, for backups.

use keelstone_etcd_api::authpb;

use super::{AuthRecord, AuthState, AuthStatus, RoleRecord, UserRecord};
use crate::MvccError;

/// All users and roles, and whether they count. Fields keep their numbers: logs of backups hold it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AuthContent {
    #[prost(bool, tag = "1")]
    pub enabled: bool,
    /// 0 if nothing was ever said of users and roles.
    #[prost(uint64, tag = "2")]
    pub revision: u64,
    /// By name.
    #[prost(message, repeated, tag = "3")]
    pub users: Vec<authpb::User>,
    /// By name.
    #[prost(message, repeated, tag = "4")]
    pub roles: Vec<authpb::Role>,
}

impl AuthState {
    pub fn content(&self) -> AuthContent {
        AuthContent {
            enabled: self.enabled,
            revision: self.revision,
            users: self.users().map(|(name, user)| user_out(name, &user.record)).collect(),
            roles: self.roles().map(|(name, role)| role_out(name, &role.record)).collect(),
        }
    }
}

fn user_out(name: &str, record: &UserRecord) -> authpb::User {
    authpb::User {
        name: name.to_owned().into(),
        password: record.password_hash.clone(),
        roles: record.roles.clone(),
        // etcd writes the options whenever they were given; their absence means the same.
        options: record.no_password.then_some(authpb::UserAddOptions { no_password: true }),
    }
}

fn role_out(name: &str, record: &RoleRecord) -> authpb::Role {
    authpb::Role { name: name.to_owned().into(), key_permission: record.permissions.clone() }
}

impl AuthContent {
    pub fn status(&self) -> AuthStatus {
        AuthStatus { enabled: self.enabled, revision: self.revision }
    }

    /// The settings without a secret: tokens of the time before are no good, and the next one that proves its
    /// password brings a new secret.
    pub(crate) fn settings(&self) -> AuthRecord {
        AuthRecord { enabled: self.enabled, revision: self.revision.max(1), ..AuthRecord::default() }
    }

    /// # Errors
    /// If a name is no text.
    pub(crate) fn user_records(&self) -> impl Iterator<Item = Result<(String, UserRecord), MvccError>> + '_ {
        self.users.iter().map(|user| {
            let mut roles = user.roles.clone();
            roles.sort();
            roles.dedup();
            let record = UserRecord {
                password_hash: user.password.clone(),
                no_password: user.options.is_some_and(|options| options.no_password),
                password_revision: self.revision,
                roles,
            };
            Ok((text(&user.name)?, record))
        })
    }

    /// # Errors
    /// If a name is no text.
    pub(crate) fn role_records(&self) -> impl Iterator<Item = Result<(String, RoleRecord), MvccError>> + '_ {
        self.roles.iter().map(|role| {
            let mut permissions = role.key_permission.clone();
            permissions.sort_by(|a, b| a.key.cmp(&b.key));
            Ok((text(&role.name)?, RoleRecord { permissions }))
        })
    }
}

fn text(name: &[u8]) -> Result<String, MvccError> {
    let refused = |_| MvccError::Snapshot("the name of a user or role is no text".to_owned());
    String::from_utf8(name.to_vec()).map_err(refused)
}
