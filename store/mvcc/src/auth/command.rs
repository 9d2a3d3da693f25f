use bytes::Bytes;
use keelstone_etcd_api::pb;

/// A change of users, roles, or of whether they count.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AuthCommand {
    #[prost(oneof = "AuthChange", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub change: Option<AuthChange>,
}

/// Passwords travel only as their hash, in `hashed_password`, made by the proposer; `password` is empty.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum AuthChange {
    #[prost(message, tag = "1")]
    Enable(AuthEnable),
    #[prost(message, tag = "2")]
    Disable(pb::AuthDisableRequest),
    #[prost(message, tag = "3")]
    UserAdd(pb::AuthUserAddRequest),
    #[prost(message, tag = "4")]
    UserDelete(pb::AuthUserDeleteRequest),
    #[prost(message, tag = "5")]
    UserChangePassword(pb::AuthUserChangePasswordRequest),
    #[prost(message, tag = "6")]
    UserGrantRole(pb::AuthUserGrantRoleRequest),
    #[prost(message, tag = "7")]
    UserRevokeRole(pb::AuthUserRevokeRoleRequest),
    #[prost(message, tag = "8")]
    RoleAdd(pb::AuthRoleAddRequest),
    #[prost(message, tag = "9")]
    RoleDelete(pb::AuthRoleDeleteRequest),
    #[prost(message, tag = "10")]
    RoleGrantPermission(pb::AuthRoleGrantPermissionRequest),
    #[prost(message, tag = "11")]
    RoleRevokePermission(pb::AuthRoleRevokePermissionRequest),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AuthEnable {
    /// Random, chosen by the proposer: the key of all tokens until auth is disabled.
    #[prost(bytes = "bytes", tag = "1")]
    pub token_secret: Bytes,
    /// Enables nothing; gives the secret to a store that was restored with auth on, if it has none yet.
    #[prost(bool, tag = "2")]
    pub secret_only: bool,
}
