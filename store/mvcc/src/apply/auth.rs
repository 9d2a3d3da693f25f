//! Changes of users and roles, with etcd's answers.

use keelstone_etcd_api::{authpb::Permission, pb, ApiError};

use super::{working::Working, ApplyError};
use crate::{
    auth::{check_command, AuthChange, AuthCommand, AuthEnable, AuthKey, Caller, RoleRecord, UserRecord, ROOT},
    Op, Response,
};

/// Whether the caller may do what a command does, in the state that it is applied to.
pub fn check(working: &Working, caller: Option<&Caller>, op: &Op) -> Result<(), ApplyError> {
    check_command(&working.view.auth, &|lease| Ok(working.index().attached(lease)?), caller, op)
}

/// The caller must have been checked. On an error nothing was changed.
pub fn apply(working: &mut Working, command: AuthCommand) -> Result<Response, ApplyError> {
    match command.change {
        None => {}
        Some(AuthChange::Enable(request)) => enable(working, request)?,
        Some(AuthChange::Disable(_)) => disable(working),
        Some(AuthChange::UserAdd(request)) => user_add(working, request)?,
        Some(AuthChange::UserDelete(request)) => user_delete(working, &request.name)?,
        Some(AuthChange::UserChangePassword(request)) => user_change_password(working, request)?,
        Some(AuthChange::UserGrantRole(request)) => user_grant_role(working, request)?,
        Some(AuthChange::UserRevokeRole(request)) => user_revoke_role(working, &request)?,
        Some(AuthChange::RoleAdd(request)) => role_add(working, request.name)?,
        Some(AuthChange::RoleDelete(request)) => role_delete(working, &request.role)?,
        Some(AuthChange::RoleGrantPermission(request)) => role_grant(working, request)?,
        Some(AuthChange::RoleRevokePermission(request)) => role_revoke(working, &request)?,
    }
    Ok(Response::None)
}

fn enable(working: &mut Working, request: AuthEnable) -> Result<(), ApiError> {
    if working.view.auth.enabled {
        // As a restored store is until somebody wants a token.
        if working.view.auth.token_secret.is_empty() {
            keep_secret(working, &request);
        }
        return Ok(());
    }
    if request.secret_only {
        return Ok(());
    }
    let root = working.view.auth.user(ROOT).ok_or(ApiError::RootUserNotExist)?;
    if !root.is_root() {
        return Err(ApiError::RootRoleNotExist);
    }
    working.view.auth.enabled = true;
    keep_secret(working, &request);
    Ok(())
}

fn keep_secret(working: &mut Working, request: &AuthEnable) {
    // A copy: the slice would keep the whole message that it came in.
    working.view.auth.token_secret = request.token_secret.to_vec().into();
    working.save_auth_settings();
}

fn disable(working: &mut Working) {
    if working.view.auth.enabled {
        working.view.auth.enabled = false;
        working.view.auth.token_secret.clear();
        commit(working);
    }
}

/// Counts a change.
fn commit(working: &mut Working) {
    working.view.auth.revision += 1;
    working.save_auth_settings();
}

fn user(working: &Working, name: &str) -> Result<UserRecord, ApiError> {
    working.view.auth.user(name).map(|user| user.record.clone()).ok_or(ApiError::UserNotFound)
}

fn role(working: &Working, name: &str) -> Result<RoleRecord, ApiError> {
    working.view.auth.role(name).map(|role| role.record.clone()).ok_or(ApiError::RoleNotFound)
}

fn put_user(working: &mut Working, name: String, record: UserRecord) {
    working.save_auth(&AuthKey::User(name.clone()), &record);
    working.view.auth.put_user(name, record);
}

fn put_role(working: &mut Working, name: String, record: RoleRecord) {
    working.save_auth(&AuthKey::Role(name.clone()), &record);
    working.view.auth.put_role(name, record);
}

fn user_add(working: &mut Working, request: pb::AuthUserAddRequest) -> Result<(), ApiError> {
    if request.name.is_empty() {
        return Err(ApiError::UserEmpty);
    }
    if working.view.auth.user(&request.name).is_some() {
        return Err(ApiError::UserAlreadyExists);
    }
    let no_password = request.options.is_some_and(|options| options.no_password);
    let hash = if no_password { String::new() } else { request.hashed_password };
    let record = UserRecord {
        password_hash: hash.into(),
        no_password,
        password_revision: working.view.auth.revision + 1,
        roles: Vec::new(),
    };
    put_user(working, request.name, record);
    commit(working);
    Ok(())
}

fn user_delete(working: &mut Working, name: &str) -> Result<(), ApiError> {
    if working.view.auth.enabled && name == ROOT {
        return Err(ApiError::InvalidAuthManagement);
    }
    user(working, name)?;
    working.forget_auth(&AuthKey::User(name.to_owned()));
    working.view.auth.remove_user(name);
    commit(working);
    Ok(())
}

fn user_change_password(working: &mut Working, request: pb::AuthUserChangePasswordRequest) -> Result<(), ApiError> {
    let mut record = user(working, &request.name)?;
    if !record.no_password {
        record.password_hash = request.hashed_password.into();
    }
    record.password_revision = working.view.auth.revision + 1;
    put_user(working, request.name, record);
    commit(working);
    Ok(())
}

fn user_grant_role(working: &mut Working, request: pb::AuthUserGrantRoleRequest) -> Result<(), ApiError> {
    let mut record = user(working, &request.user)?;
    if request.role != ROOT {
        role(working, &request.role)?;
    }
    let Err(at) = record.roles.binary_search(&request.role) else { return Ok(()) };
    record.roles.insert(at, request.role);
    put_user(working, request.user, record);
    commit(working);
    Ok(())
}

fn user_revoke_role(working: &mut Working, request: &pb::AuthUserRevokeRoleRequest) -> Result<(), ApiError> {
    if working.view.auth.enabled && request.name == ROOT && request.role == ROOT {
        return Err(ApiError::InvalidAuthManagement);
    }
    let mut record = user(working, &request.name)?;
    let at = record.roles.binary_search(&request.role).map_err(|_| ApiError::RoleNotGranted)?;
    record.roles.remove(at);
    put_user(working, request.name.clone(), record);
    commit(working);
    Ok(())
}

fn role_add(working: &mut Working, name: String) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(ApiError::RoleEmpty);
    }
    if working.view.auth.role(&name).is_some() {
        return Err(ApiError::RoleAlreadyExists);
    }
    put_role(working, name, RoleRecord::default());
    commit(working);
    Ok(())
}

fn role_delete(working: &mut Working, name: &str) -> Result<(), ApiError> {
    if working.view.auth.enabled && name == ROOT {
        return Err(ApiError::InvalidAuthManagement);
    }
    role(working, name)?;
    for user_name in working.view.auth.users_of(name) {
        let mut record = user(working, &user_name)?;
        record.roles.retain(|role| role != name);
        put_user(working, user_name, record);
    }
    working.forget_auth(&AuthKey::Role(name.to_owned()));
    working.view.auth.remove_role(name);
    commit(working);
    Ok(())
}

fn role_grant(working: &mut Working, request: pb::AuthRoleGrantPermissionRequest) -> Result<(), ApiError> {
    let granted = request.perm.ok_or(ApiError::PermissionNotGiven)?;
    if !names_keys(&granted) {
        return Err(ApiError::InvalidAuthManagement);
    }
    let mut record = role(working, &request.name)?;
    let same = |known: &&mut Permission| known.key == granted.key && known.range_end == granted.range_end;
    match record.permissions.iter_mut().find(same) {
        Some(known) => known.perm_type = granted.perm_type,
        None => {
            let after = record.permissions.partition_point(|known| known.key <= granted.key);
            // Copies: slices would keep the whole message that they came in.
            let (key, range_end) = (granted.key.to_vec().into(), granted.range_end.to_vec().into());
            record.permissions.insert(after, Permission { perm_type: granted.perm_type, key, range_end });
        }
    }
    put_role(working, request.name, record);
    commit(working);
    Ok(())
}

/// Whether any key can be meant.
fn names_keys(permission: &Permission) -> bool {
    let (key, end) = (&permission.key[..], &permission.range_end[..]);
    !key.is_empty() && (end.is_empty() || end == [0] || key < end)
}

fn role_revoke(working: &mut Working, request: &pb::AuthRoleRevokePermissionRequest) -> Result<(), ApiError> {
    let mut record = role(working, &request.role)?;
    let known = record.permissions.len();
    record.permissions.retain(|known| known.key != request.key || known.range_end != request.range_end);
    if record.permissions.len() == known {
        return Err(ApiError::PermissionNotGranted);
    }
    put_role(working, request.role.clone(), record);
    commit(working);
    Ok(())
}
