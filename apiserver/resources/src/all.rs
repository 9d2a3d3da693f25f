use keelstone_registry::Resource;

use crate::apps::{deployment::Deployments, replica_set::ReplicaSets};
use crate::coordination::lease::Leases;
use crate::core::{
    config_map::ConfigMaps, endpoints::EndpointsKind, event::Events, namespace::Namespaces, node::Nodes, pod::Pods,
    secret::Secrets, service::Services, service_account::ServiceAccounts,
};
use crate::discovery::endpoint_slice::EndpointSlices;
use crate::rbac::{
    cluster_role::ClusterRoles, cluster_role_binding::ClusterRoleBindings, role::Roles, role_binding::RoleBindings,
};
use crate::scheduling::priority_class::PriorityClasses;

/// Every served kind, by group, then plural.
pub fn all() -> Vec<&'static dyn Resource> {
    vec![
        &ConfigMaps,
        &EndpointsKind,
        &Events,
        &Namespaces,
        &Nodes,
        &Pods,
        &Secrets,
        &ServiceAccounts,
        &Services,
        &Deployments,
        &ReplicaSets,
        &Leases,
        &EndpointSlices,
        &ClusterRoleBindings,
        &ClusterRoles,
        &RoleBindings,
        &Roles,
        &PriorityClasses,
    ]
}
