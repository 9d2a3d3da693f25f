use std::sync::Arc;

use bytes::Bytes;
use keelstone_etcd_api::{authpb::Permission, ApiError};

use super::{Access, AuthContent, AuthStatus, Caller, UserPassword};
use crate::{read::ReadError, view::View};

/// Users, roles and what they allow, as of one applied index. Every check passes while auth is off, and for the
/// store itself (a caller of `None`).
pub struct AuthView {
    view: Arc<View>,
}

impl AuthView {
    pub(crate) fn new(view: Arc<View>) -> Self {
        Self { view }
    }

    pub fn status(&self) -> AuthStatus {
        AuthStatus { enabled: self.view.auth.enabled, revision: self.view.auth.revision }
    }

    /// All of it, for backups: password hashes too.
    pub fn content(&self) -> AuthContent {
        self.view.auth.content()
    }

    /// The key of all tokens; empty while auth is off, and after a restore until the first token is wanted.
    pub fn token_secret(&self) -> &Bytes {
        &self.view.auth.token_secret
    }

    /// How a user proves who it is; `None` if there is no such user.
    pub fn password(&self, user: &str) -> Option<UserPassword> {
        self.view.auth.user(user).map(|user| UserPassword {
            hash: user.record.password_hash.clone(),
            no_password: user.record.no_password,
            revision: user.record.password_revision,
        })
    }

    /// A caller that was authenticated just now.
    pub fn caller(&self, user: String) -> Caller {
        Caller { user, auth_revision: self.view.auth.revision }
    }

    /// The users' names, in order. Asks for the role `root`.
    pub fn users(&self, caller: Option<&Caller>) -> Result<Vec<String>, ApiError> {
        self.check_root(caller)?;
        Ok(self.view.auth.user_names().cloned().collect())
    }

    /// The roles' names, in order. Asks for the role `root`.
    pub fn roles(&self, caller: Option<&Caller>) -> Result<Vec<String>, ApiError> {
        self.check_root(caller)?;
        Ok(self.view.auth.role_names().cloned().collect())
    }

    /// The roles of a user, in order. Asks for the role `root`, or to be that user.
    pub fn user_roles(&self, caller: Option<&Caller>, user: &str) -> Result<Vec<String>, ApiError> {
        let own = caller.is_some_and(|caller| caller.user == user);
        self.check_root(caller).or_else(|error| if own { Ok(()) } else { Err(error) })?;
        let user = self.view.auth.user(user).ok_or(ApiError::UserNotFound)?;
        Ok(user.record.roles.clone())
    }

    /// The permissions of a role. Asks for the role `root`, or to have that role.
    pub fn role_permissions(&self, caller: Option<&Caller>, role: &str) -> Result<Vec<Permission>, ApiError> {
        let own = caller.and_then(|caller| self.view.auth.user(&caller.user));
        let has = own.is_some_and(|user| user.record.roles.iter().any(|granted| granted == role));
        self.check_root(caller).or_else(|error| if has { Ok(()) } else { Err(error) })?;
        self.view.auth.role_permissions(role)
    }

    /// # Errors
    /// `user name is empty` for a caller that did not say who it is, `permission denied` without the role `root`.
    pub fn check_root(&self, caller: Option<&Caller>) -> Result<(), ApiError> {
        self.view.auth.check_root(caller)
    }

    /// # Errors
    /// As [`AuthView::check_root`], but any user will do.
    pub fn check_known(&self, caller: Option<&Caller>) -> Result<(), ApiError> {
        self.view.auth.check_known(caller)
    }

    /// Whether all keys of a range may be read.
    pub fn check_read(&self, caller: Option<&Caller>, key: &Bytes, range_end: &Bytes) -> Result<(), ApiError> {
        self.view.auth.check(caller, Access::Read, key, range_end)
    }

    /// Whether a lease may be kept alive: any user may if no key is attached, who may write all keys, and root.
    pub fn check_lease_renew(&self, caller: Option<&Caller>, lease: i64) -> Result<(), ApiError> {
        self.check_lease(caller, Access::Write, lease)
    }

    /// Whether the keys of a lease may be listed: by who may read them all.
    pub fn check_lease_read(&self, caller: Option<&Caller>, lease: i64) -> Result<(), ApiError> {
        self.check_lease(caller, Access::Read, lease)
    }

    /// The keys attached to a lease, in order, in the state that the checks are made against.
    pub(crate) fn lease_keys(&self, lease: i64) -> Result<Vec<Bytes>, ApiError> {
        self.view.index().attached(lease).map_err(|error| ReadError::from(error).into_api())
    }

    /// Whether all leases may be listed: by who may read the keys of each. Blocks.
    pub fn check_leases_read(&self, caller: Option<&Caller>) -> Result<(), ApiError> {
        self.check_known(caller)?;
        if self.view.auth.check_root(caller).is_ok() {
            return Ok(());
        }
        self.view.leases.keys().try_for_each(|lease| self.check_lease(caller, Access::Read, *lease))
    }

    fn check_lease(&self, caller: Option<&Caller>, access: Access, lease: i64) -> Result<(), ApiError> {
        self.check_known(caller)?;
        if !self.view.auth.enabled || caller.is_none() {
            return Ok(());
        }
        let end = Bytes::new();
        self.lease_keys(lease)?.iter().try_for_each(|key| self.view.auth.check(caller, access, key, &end))
    }
}
