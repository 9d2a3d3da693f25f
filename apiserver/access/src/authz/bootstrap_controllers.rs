//! `system:controller:*`: one role and one binding for each controller, to its service account in kube-system
//! and to the controller manager itself, whose controllers share one identity here.

use serde_json::Value;

use super::bootstrap::{
    cluster_binding, cluster_role, events_rule, rule, service_account, user, BootstrapObject, READ,
};

const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const ANY: &[&str] = &["*"];

/// The controllers' roles and their bindings.
pub(super) fn controller_roles() -> Vec<BootstrapObject> {
    let mut objects = Vec::new();
    for (name, mut rules) in workload_controllers().into_iter().chain(cluster_controllers()) {
        rules.push(events_rule());
        let role = format!("system:controller:{name}");
        objects.push(cluster_role(&role, &[], rules));
        let subjects = vec![service_account("kube-system", name), user(CONTROLLER_MANAGER)];
        objects.push(cluster_binding(&role, &role, subjects));
    }
    objects
}

fn workload_controllers() -> Vec<(&'static str, Vec<Value>)> {
    let pods = |verbs: &[&str]| rule(verbs, &[""], &["pods"]);
    vec![
        (
            "deployment-controller",
            vec![
                rule(&["get", "list", "patch", "update", "watch"], &["apps"], &["deployments"]),
                rule(&["patch", "update"], &["apps"], &["deployments/finalizers", "deployments/status"]),
                rule(&["create", "delete", "get", "list", "patch", "update", "watch"], &["apps"], &["replicasets"]),
                pods(&["get", "list", "update", "watch"]),
            ],
        ),
        (
            "replicaset-controller",
            vec![
                rule(&["get", "list", "patch", "update", "watch"], &["apps"], &["replicasets"]),
                rule(&["patch", "update"], &["apps"], &["replicasets/finalizers", "replicasets/status"]),
                pods(&["create", "delete", "get", "list", "patch", "watch"]),
            ],
        ),
        (
            "statefulset-controller",
            vec![
                rule(READ, &["apps"], &["statefulsets"]),
                rule(&["patch", "update"], &["apps"], &["statefulsets/finalizers", "statefulsets/status"]),
                pods(&["create", "delete", "get", "list", "patch", "update", "watch"]),
                rule(
                    &["create", "delete", "get", "list", "patch", "update", "watch"],
                    &["apps"],
                    &["controllerrevisions"],
                ),
                rule(&["create", "get", "list", "watch"], &[""], &["persistentvolumeclaims"]),
            ],
        ),
        (
            "daemon-set-controller",
            vec![
                rule(READ, &["apps"], &["daemonsets"]),
                rule(&["patch", "update"], &["apps"], &["daemonsets/finalizers", "daemonsets/status"]),
                rule(READ, &[""], &["nodes"]),
                pods(&["create", "delete", "get", "list", "patch", "watch"]),
                rule(
                    &["create", "delete", "get", "list", "patch", "update", "watch"],
                    &["apps"],
                    &["controllerrevisions"],
                ),
            ],
        ),
        (
            "job-controller",
            vec![
                rule(&["get", "list", "patch", "update", "watch"], &["batch"], &["jobs"]),
                rule(&["patch", "update"], &["batch"], &["jobs/finalizers", "jobs/status"]),
                pods(&["create", "delete", "get", "list", "patch", "watch"]),
            ],
        ),
    ]
}

fn cluster_controllers() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        (
            "endpoint-controller",
            vec![
                rule(READ, &[""], &["pods", "services"]),
                rule(&["create", "delete", "get", "list", "patch", "update", "watch"], &[""], &["endpoints"]),
                rule(&["create"], &[""], &["endpoints/restricted"]),
            ],
        ),
        (
            "endpointslice-controller",
            vec![
                rule(READ, &[""], &["nodes", "pods", "services"]),
                rule(&["patch", "update"], &[""], &["services/finalizers"]),
                rule(
                    &["create", "delete", "get", "list", "patch", "update", "watch"],
                    &["discovery.k8s.io"],
                    &["endpointslices"],
                ),
                rule(&["create"], &["discovery.k8s.io"], &["endpointslices/restricted"]),
            ],
        ),
        (
            "node-controller",
            vec![
                rule(&["delete", "get", "list", "patch", "update", "watch"], &[""], &["nodes"]),
                rule(&["patch", "update"], &[""], &["nodes/status", "pods/status"]),
                rule(&["delete", "get", "list", "watch"], &[""], &["pods"]),
                rule(READ, &["coordination.k8s.io"], &["leases"]),
            ],
        ),
        (
            "taint-eviction-controller",
            vec![
                rule(READ, &[""], &["nodes"]),
                rule(&["delete", "get", "list", "watch"], &[""], &["pods"]),
                rule(&["patch", "update"], &[""], &["pods/status"]),
            ],
        ),
        (
            "pod-garbage-collector",
            vec![
                rule(&["delete", "list", "watch"], &[""], &["pods"]),
                rule(&["get", "list"], &[""], &["nodes"]),
                rule(&["patch"], &[""], &["pods/status"]),
            ],
        ),
        ("generic-garbage-collector", vec![rule(&["delete", "get", "list", "patch", "update", "watch"], ANY, ANY)]),
        (
            "namespace-controller",
            vec![
                rule(&["delete", "get", "list", "watch"], &[""], &["namespaces"]),
                rule(&["patch", "update"], &[""], &["namespaces/finalize", "namespaces/status"]),
                rule(&["delete", "deletecollection", "get", "list"], ANY, ANY),
            ],
        ),
        (
            "service-account-controller",
            vec![rule(&["create", "get", "list", "watch"], &[""], &["serviceaccounts", "namespaces"])],
        ),
        (
            "root-ca-cert-publisher",
            vec![
                rule(&["create", "get", "list", "patch", "update", "watch"], &[""], &["configmaps"]),
                rule(READ, &[""], &["namespaces"]),
            ],
        ),
        (
            "clusterrole-aggregation-controller",
            vec![rule(
                &["escalate", "get", "list", "patch", "update", "watch"],
                &["rbac.authorization.k8s.io"],
                &["clusterroles"],
            )],
        ),
        (
            "disruption-controller",
            vec![
                rule(READ, &["apps"], &["deployments", "replicasets", "statefulsets"]),
                rule(READ, &[""], &["pods"]),
                rule(READ, &["policy"], &["poddisruptionbudgets"]),
                rule(&["patch", "update"], &["policy"], &["poddisruptionbudgets/status"]),
            ],
        ),
        ("ttl-controller", vec![rule(&["list", "patch", "update", "watch"], &[""], &["nodes"])]),
    ]
}
