use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use keelstone_etcd_api::{authpb::Permission, ApiError};

use super::{permissions::Permissions, Access, AuthRecord, Caller, RoleRecord, UserRecord};

/// The user without whom auth cannot be enabled, and the role that may do everything.
pub const ROOT: &str = "root";

/// Users, roles, and whether they count. Cloning is O(1).
#[derive(Clone)]
pub struct AuthState {
    pub enabled: bool,
    /// Grows by one with every change; 1 before the first, as in etcd.
    pub revision: u64,
    pub token_secret: Bytes,
    users: OrdMap<String, Arc<User>>,
    roles: OrdMap<String, Arc<Role>>,
}

/// A user. What its roles allow is worked out whenever one of them or the user changes, never later.
#[derive(Clone, Debug, Default)]
pub struct User {
    pub record: UserRecord,
    permissions: Permissions,
}

#[derive(Clone, Debug, Default)]
pub struct Role {
    pub record: RoleRecord,
}

/// Whether auth is on, and its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthStatus {
    pub enabled: bool,
    pub revision: u64,
}

/// How a user proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserPassword {
    /// bcrypt's text form; empty if the user has no password.
    pub hash: Bytes,
    /// True for a user that can only be one by its certificate or a signed token.
    pub no_password: bool,
    /// Changes with the password.
    pub revision: u64,
}

impl Default for AuthState {
    fn default() -> Self {
        Self { enabled: false, revision: 1, token_secret: Bytes::new(), users: OrdMap::new(), roles: OrdMap::new() }
    }
}

impl User {
    pub fn is_root(&self) -> bool {
        self.record.roles.iter().any(|role| role == ROOT)
    }
}

impl AuthState {
    pub fn settings(&self) -> AuthRecord {
        AuthRecord { enabled: self.enabled, revision: self.revision, token_secret: self.token_secret.clone() }
    }

    /// Takes what the engine holds; [`AuthState::work_out_all`] must follow.
    pub fn load_settings(&mut self, record: AuthRecord) {
        (self.enabled, self.revision, self.token_secret) = (record.enabled, record.revision, record.token_secret);
    }

    /// Takes a user from the engine; [`AuthState::work_out_all`] must follow.
    pub fn load_user(&mut self, name: String, record: UserRecord) {
        self.users.insert(name, Arc::new(User { record, permissions: Permissions::default() }));
    }

    pub fn put_role(&mut self, name: String, record: RoleRecord) {
        self.roles.insert(name.clone(), Arc::new(Role { record }));
        self.work_out_users_of(&name);
    }

    pub fn put_user(&mut self, name: String, record: UserRecord) {
        let permissions = self.permissions_of(&record);
        self.users.insert(name, Arc::new(User { record, permissions }));
    }

    pub fn remove_user(&mut self, name: &str) {
        self.users.remove(name);
    }

    /// Removes a role that no user has any more.
    pub fn remove_role(&mut self, name: &str) {
        self.roles.remove(name);
    }

    /// Works out every user's permissions, once all users and roles are loaded.
    pub fn work_out_all(&mut self) {
        let records: Vec<_> = self.users.iter().map(|(name, user)| (name.clone(), user.record.clone())).collect();
        for (name, record) in records {
            self.put_user(name, record);
        }
    }

    fn work_out_users_of(&mut self, role: &str) {
        for name in self.users_of(role) {
            if let Some(record) = self.user(&name).map(|user| user.record.clone()) {
                self.put_user(name, record);
            }
        }
    }

    /// The users that have a role, in order.
    pub fn users_of(&self, role: &str) -> Vec<String> {
        let has = |user: &User| user.record.roles.iter().any(|granted| granted == role);
        self.users.iter().filter(|(_, user)| has(user)).map(|(name, _)| name.clone()).collect()
    }

    fn permissions_of(&self, record: &UserRecord) -> Permissions {
        let roles: Vec<&Role> = record.roles.iter().filter_map(|role| self.role(role)).collect();
        Permissions::new(roles.iter().flat_map(|role| &role.record.permissions))
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(AsRef::as_ref)
    }

    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name).map(AsRef::as_ref)
    }

    /// By name.
    pub fn users(&self) -> impl Iterator<Item = (&str, &User)> {
        self.users.iter().map(|(name, user)| (name.as_str(), &**user))
    }

    /// By name.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &Role)> {
        self.roles.iter().map(|(name, role)| (name.as_str(), &**role))
    }

    pub fn user_names(&self) -> impl Iterator<Item = &String> {
        self.users.keys()
    }

    pub fn role_names(&self) -> impl Iterator<Item = &String> {
        self.roles.keys()
    }

    /// What `RoleGet` answers.
    pub fn role_permissions(&self, name: &str) -> Result<Vec<Permission>, ApiError> {
        let role = self.role(name).ok_or(ApiError::RoleNotFound)?;
        if name == ROOT {
            let end = Bytes::from_static(&[0]);
            return Ok(vec![Permission { perm_type: 2, key: Bytes::new(), range_end: end }]);
        }
        Ok(role.record.permissions.clone())
    }

    /// Whether the caller may do this with all keys from `key` to `range_end`. Without auth, and for the store
    /// itself (`None`), all is allowed.
    pub fn check(
        &self,
        caller: Option<&Caller>,
        access: Access,
        key: &Bytes,
        range_end: &Bytes,
    ) -> Result<(), ApiError> {
        let Some(caller) = caller.filter(|_| self.enabled) else { return Ok(()) };
        if caller.auth_revision == 0 {
            return Err(ApiError::UserEmpty);
        }
        if caller.auth_revision < self.revision {
            return Err(ApiError::AuthOldRevision);
        }
        match self.user(&caller.user) {
            Some(user) if user.is_root() || user.permissions.allow(access, key, range_end) => Ok(()),
            _ => Err(ApiError::PermissionDenied),
        }
    }

    /// Whether the caller has the role `root`. As in etcd, the revision of its authentication does not matter.
    pub fn check_root(&self, caller: Option<&Caller>) -> Result<(), ApiError> {
        let Some(caller) = caller.filter(|_| self.enabled) else { return Ok(()) };
        if caller.user.is_empty() {
            return Err(ApiError::UserEmpty);
        }
        match self.user(&caller.user) {
            Some(user) if user.is_root() => Ok(()),
            _ => Err(ApiError::PermissionDenied),
        }
    }

    /// Whether the caller is any user at all.
    pub fn check_known(&self, caller: Option<&Caller>) -> Result<(), ApiError> {
        let Some(caller) = caller.filter(|_| self.enabled) else { return Ok(()) };
        if caller.user.is_empty() {
            return Err(ApiError::UserEmpty);
        }
        self.user(&caller.user).map(drop).ok_or(ApiError::PermissionDenied)
    }
}
