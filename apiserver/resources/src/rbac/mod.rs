//! The group `rbac.authorization.k8s.io`, v1.

pub mod binding;
pub mod cluster_role;
pub mod cluster_role_binding;
pub mod role;
pub mod role_binding;
pub mod rules;

/// The API group's name.
pub const GROUP: &str = "rbac.authorization.k8s.io";
