//! The kinds that are served, one file each: defaults, strategy, validation, selectable fields, columns.
//! All is pure: objects in, objects or errors out. `all` is the one list of them.

mod all;
mod apps;
pub mod binding;
mod check;
mod columns;
mod conditions;
pub mod constants;
mod coordination;
mod core;
mod discovery;
pub mod eviction;
mod json;
mod pod_spec;
mod rbac;
mod scheduling;
mod strategy;
#[cfg(test)]
mod testing;

pub use all::all;
pub use apps::{deployment::Deployments, replica_set::ReplicaSets};
pub use coordination::lease::Leases;
pub use core::config_map::ConfigMaps;
pub use core::endpoints::EndpointsKind;
pub use core::event::Events;
pub use core::namespace::{Namespaces, FINALIZER as NAMESPACE_FINALIZER};
pub use core::node::Nodes;
pub use core::pod::{is_finished as pod_is_finished, Pods};
pub use core::secret::Secrets;
pub use core::service::Services;
pub use core::service_account::ServiceAccounts;
pub use discovery::endpoint_slice::EndpointSlices;
pub use pod_spec::qos::class as qos_class;
pub use rbac::cluster_role::ClusterRoles;
pub use rbac::cluster_role_binding::ClusterRoleBindings;
pub use rbac::role::Roles;
pub use rbac::role_binding::RoleBindings;
pub use scheduling::priority_class::{PriorityClasses, SYSTEM_CLASSES as SYSTEM_PRIORITY_CLASSES};
