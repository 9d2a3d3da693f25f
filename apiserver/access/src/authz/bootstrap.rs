//! Roles and bindings that every cluster starts with, as API document "Using RBAC Authorization" lists them.

use serde_json::{json, Map, Value};

use super::{bootstrap_controllers, rbac::RBAC_GROUP};
use crate::user::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, MASTERS, NODES_GROUP};

pub(super) const READ: &[&str] = &["get", "list", "watch"];
pub(super) const READ_WRITE: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];

/// An object that is created at the first start, and brought up to date at every start unless an operator
/// annotated it with `rbac.authorization.kubernetes.io/autoupdate: "false"`.
#[derive(Clone, Debug)]
pub struct BootstrapObject {
    /// `clusterroles`, `clusterrolebindings`, `roles` or `rolebindings`.
    pub resource: &'static str,
    /// Empty for cluster-scoped objects.
    pub namespace: &'static str,
    pub object: Value,
}

/// Every bootstrap role and binding.
pub fn bootstrap_objects() -> Vec<BootstrapObject> {
    let mut objects = user_facing_roles();
    objects.extend(discovery_roles());
    objects.extend(component_roles());
    objects.extend(bootstrap_controllers::controller_roles());
    objects.extend(namespaced_roles());
    objects
}

pub(super) fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": groups, "resources": resources})
}

pub(super) fn named_rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names})
}

fn url_rule(verbs: &[&str], urls: &[&str]) -> Value {
    json!({"verbs": verbs, "nonResourceURLs": urls})
}

/// May write events of both groups.
pub(super) fn events_rule() -> Value {
    rule(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"])
}

fn metadata(name: &str, namespace: &str, labels: &[(&str, &str)]) -> Value {
    let mut all = Map::from_iter([("kubernetes.io/bootstrapping".to_owned(), json!("rbac-defaults"))]);
    all.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
    let mut metadata = json!({
        "name": name,
        "labels": all,
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

pub(super) fn cluster_role(name: &str, labels: &[(&str, &str)], rules: Vec<Value>) -> BootstrapObject {
    BootstrapObject {
        resource: "clusterroles",
        namespace: "",
        object: json!({
            "apiVersion": format!("{RBAC_GROUP}/v1"), "kind": "ClusterRole",
            "metadata": metadata(name, "", labels), "rules": rules,
        }),
    }
}

fn aggregated_role(name: &str, labels: &[(&str, &str)], gathers: &str, rules: Vec<Value>) -> BootstrapObject {
    let mut role = cluster_role(name, labels, rules);
    role.object["aggregationRule"] =
        json!({"clusterRoleSelectors": [{"matchLabels": {format!("rbac.authorization.k8s.io/{gathers}"): "true"}}]});
    role
}

pub(super) fn group(name: &str) -> Value {
    json!({"apiGroup": RBAC_GROUP, "kind": "Group", "name": name})
}

pub(super) fn user(name: &str) -> Value {
    json!({"apiGroup": RBAC_GROUP, "kind": "User", "name": name})
}

pub(super) fn service_account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

pub(super) fn cluster_binding(name: &str, role: &str, subjects: Vec<Value>) -> BootstrapObject {
    let mut object = json!({
        "apiVersion": format!("{RBAC_GROUP}/v1"), "kind": "ClusterRoleBinding",
        "metadata": metadata(name, "", &[]),
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": role},
    });
    if !subjects.is_empty() {
        object["subjects"] = Value::Array(subjects);
    }
    BootstrapObject { resource: "clusterrolebindings", namespace: "", object }
}

fn view_rules() -> Vec<Value> {
    vec![
        rule(
            READ,
            &[""],
            &[
                "configmaps",
                "endpoints",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "pods",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "serviceaccounts",
                "services",
                "services/status",
            ],
        ),
        rule(
            READ,
            &[""],
            &[
                "bindings",
                "events",
                "limitranges",
                "namespaces/status",
                "pods/log",
                "pods/status",
                "replicationcontrollers/status",
                "resourcequotas",
                "resourcequotas/status",
            ],
        ),
        rule(READ, &[""], &["namespaces"]),
        rule(READ, &["discovery.k8s.io"], &["endpointslices"]),
        rule(READ, &["apps"], APPS_READ),
        rule(READ, &["autoscaling"], &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
        rule(READ, &["batch"], &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
        rule(READ, &["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
        rule(READ, &["networking.k8s.io"], &["ingresses", "ingresses/status", "networkpolicies"]),
    ]
}

const APPS_READ: &[&str] = &[
    "controllerrevisions",
    "daemonsets",
    "daemonsets/status",
    "deployments",
    "deployments/scale",
    "deployments/status",
    "replicasets",
    "replicasets/scale",
    "replicasets/status",
    "statefulsets",
    "statefulsets/scale",
    "statefulsets/status",
];

fn edit_rules() -> Vec<Value> {
    vec![
        rule(READ, &[""], &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"]),
        rule(&["impersonate"], &[""], &["serviceaccounts"]),
        rule(WRITE, &[""], &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"]),
        rule(&["create"], &[""], &["pods/eviction"]),
        rule(
            WRITE,
            &[""],
            &[
                "configmaps",
                "endpoints",
                "events",
                "persistentvolumeclaims",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "secrets",
                "serviceaccounts",
                "services",
                "services/proxy",
            ],
        ),
        rule(&["create"], &[""], &["serviceaccounts/token"]),
        rule(
            WRITE,
            &["apps"],
            &[
                "daemonsets",
                "deployments",
                "deployments/rollback",
                "deployments/scale",
                "replicasets",
                "replicasets/scale",
                "statefulsets",
                "statefulsets/scale",
            ],
        ),
        rule(WRITE, &["autoscaling"], &["horizontalpodautoscalers"]),
        rule(WRITE, &["batch"], &["cronjobs", "jobs"]),
        rule(WRITE, &["policy"], &["poddisruptionbudgets"]),
        rule(WRITE, &["networking.k8s.io"], &["ingresses", "networkpolicies"]),
        rule(READ_WRITE, &["coordination.k8s.io"], &["leases"]),
        rule(WRITE, &["discovery.k8s.io"], &["endpointslices"]),
    ]
}

fn admin_rules() -> Vec<Value> {
    vec![
        rule(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews"]),
        rule(READ_WRITE, &[RBAC_GROUP], &["rolebindings", "roles"]),
    ]
}

fn user_facing_roles() -> Vec<BootstrapObject> {
    let to = |role: &'static str| (role, "true");
    let (to_view, to_edit, to_admin) = (
        to("rbac.authorization.k8s.io/aggregate-to-view"),
        to("rbac.authorization.k8s.io/aggregate-to-edit"),
        to("rbac.authorization.k8s.io/aggregate-to-admin"),
    );
    let edit: Vec<Value> = edit_rules().into_iter().chain(view_rules()).collect();
    let admin: Vec<Value> = admin_rules().into_iter().chain(edit.clone()).collect();
    vec![
        cluster_role("cluster-admin", &[], vec![rule(&["*"], &["*"], &["*"]), url_rule(&["*"], &["*"])]),
        cluster_binding("cluster-admin", "cluster-admin", vec![group(MASTERS)]),
        aggregated_role("admin", &[], "aggregate-to-admin", admin),
        aggregated_role("edit", &[to_admin], "aggregate-to-edit", edit),
        aggregated_role("view", &[to_edit], "aggregate-to-view", view_rules()),
        cluster_role("system:aggregate-to-admin", &[to_admin], admin_rules()),
        cluster_role("system:aggregate-to-edit", &[to_edit], edit_rules()),
        cluster_role("system:aggregate-to-view", &[to_view], view_rules()),
    ]
}

fn discovery_roles() -> Vec<BootstrapObject> {
    let discovery = &[
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version/",
        "/version",
    ];
    let public = &["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let reviews = vec![
        rule(&["create"], &["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
        rule(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
    ];
    let issuer = vec![url_rule(
        &["get"],
        &[
            "/.well-known/openid-configuration",
            "/.well-known/openid-configuration/",
            "/openid/v1/jwks",
            "/openid/v1/jwks/",
        ],
    )];
    let authenticated = || vec![group(ALL_AUTHENTICATED)];
    vec![
        cluster_role("system:discovery", &[], vec![url_rule(&["get"], discovery)]),
        cluster_binding("system:discovery", "system:discovery", authenticated()),
        cluster_role("system:basic-user", &[], reviews),
        cluster_binding("system:basic-user", "system:basic-user", authenticated()),
        cluster_role("system:public-info-viewer", &[], vec![url_rule(&["get"], public)]),
        cluster_binding(
            "system:public-info-viewer",
            "system:public-info-viewer",
            vec![group(ALL_AUTHENTICATED), group(ALL_UNAUTHENTICATED)],
        ),
        cluster_role("system:service-account-issuer-discovery", &[], issuer),
        cluster_binding(
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            vec![group("system:serviceaccounts")],
        ),
        cluster_role(
            "system:monitoring",
            &[],
            vec![url_rule(
                &["get"],
                &["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"],
            )],
        ),
        cluster_binding("system:monitoring", "system:monitoring", vec![group("system:monitoring")]),
        cluster_role(
            "system:auth-delegator",
            &[],
            vec![
                rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
                rule(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
            ],
        ),
    ]
}

/// What a node agent may do. Kubernetes' Node authorizer narrows reads to what the node's own pods need; here
/// this role covers the reads, and admission (`NodeRestriction`) narrows the writes.
fn node_rules() -> Vec<Value> {
    vec![
        rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
        rule(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews", "subjectaccessreviews"]),
        rule(
            READ,
            &[""],
            &["services", "configmaps", "secrets", "persistentvolumeclaims", "persistentvolumes", "namespaces"],
        ),
        rule(READ, &[""], &["nodes", "pods", "serviceaccounts", "endpoints"]),
        rule(&["create", "patch", "update", "delete"], &[""], &["nodes"]),
        rule(&["patch", "update"], &[""], &["nodes/status", "pods/status"]),
        rule(&["create", "delete"], &[""], &["pods"]),
        rule(&["create"], &[""], &["pods/eviction", "serviceaccounts/token"]),
        rule(&["create", "delete", "get", "patch", "update", "list", "watch"], &["coordination.k8s.io"], &["leases"]),
        rule(READ, &["discovery.k8s.io"], &["endpointslices"]),
        rule(READ, &["node.k8s.io"], &["runtimeclasses"]),
        rule(READ, &["storage.k8s.io"], &["csidrivers", "volumeattachments"]),
        rule(&["create", "delete", "get", "patch", "update"], &["storage.k8s.io"], &["csinodes"]),
        rule(&["create", "get", "list", "watch"], &["certificates.k8s.io"], &["certificatesigningrequests"]),
        events_rule(),
    ]
}

fn scheduler_rules() -> Vec<Value> {
    vec![
        events_rule(),
        rule(&["create", "get", "list", "watch", "update", "patch"], &["coordination.k8s.io"], &["leases"]),
        rule(
            READ,
            &[""],
            &[
                "nodes",
                "namespaces",
                "persistentvolumeclaims",
                "persistentvolumes",
                "replicationcontrollers",
                "services",
            ],
        ),
        rule(&["delete", "get", "list", "watch"], &[""], &["pods"]),
        rule(&["create"], &[""], &["bindings", "pods/binding"]),
        rule(&["patch", "update"], &[""], &["pods/status"]),
        rule(READ, &["apps"], &["replicasets", "statefulsets"]),
        rule(READ, &["policy"], &["poddisruptionbudgets"]),
        rule(
            READ,
            &["storage.k8s.io"],
            &["csidrivers", "csinodes", "csistoragecapacities", "storageclasses", "volumeattachments"],
        ),
        rule(READ, &["scheduling.k8s.io"], &["priorityclasses"]),
        rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
        rule(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
    ]
}

fn controller_manager_rules() -> Vec<Value> {
    vec![
        events_rule(),
        rule(&["create", "get", "list", "watch", "update", "patch"], &["coordination.k8s.io"], &["leases"]),
        rule(&["create"], &[""], &["secrets", "serviceaccounts", "serviceaccounts/token"]),
        rule(&["delete"], &[""], &["secrets"]),
        rule(&["get"], &[""], &["configmaps", "namespaces", "secrets", "serviceaccounts"]),
        rule(&["update"], &[""], &["secrets", "serviceaccounts"]),
        rule(&["list", "watch"], &["*"], &["*"]),
        rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
        rule(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
    ]
}

fn component_roles() -> Vec<BootstrapObject> {
    vec![
        cluster_role("system:node", &[], node_rules()),
        cluster_binding("system:node", "system:node", vec![group(NODES_GROUP)]),
        cluster_role(
            "system:node-proxier",
            &[],
            vec![
                rule(&["list", "watch"], &[""], &["services", "endpoints"]),
                rule(READ, &[""], &["nodes"]),
                rule(&["list", "watch"], &["discovery.k8s.io"], &["endpointslices"]),
                events_rule(),
            ],
        ),
        cluster_binding("system:node-proxier", "system:node-proxier", vec![user("system:kube-proxy")]),
        cluster_role("system:kube-scheduler", &[], scheduler_rules()),
        cluster_binding("system:kube-scheduler", "system:kube-scheduler", vec![user("system:kube-scheduler")]),
        cluster_role("system:kube-controller-manager", &[], controller_manager_rules()),
        cluster_binding(
            "system:kube-controller-manager",
            "system:kube-controller-manager",
            vec![user("system:kube-controller-manager")],
        ),
        cluster_role("system:kube-dns", &[], vec![rule(&["list", "watch"], &[""], &["endpoints", "services"])]),
        cluster_binding("system:kube-dns", "system:kube-dns", vec![service_account("kube-system", "kube-dns")]),
        cluster_role(
            "system:kubelet-api-admin",
            &[],
            vec![
                rule(READ, &[""], &["nodes"]),
                rule(&["proxy"], &[""], &["nodes"]),
                rule(&["*"], &[""], &["nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats"]),
            ],
        ),
    ]
}

/// The role in kube-public that lets everybody read the cluster's public configuration.
fn namespaced_roles() -> Vec<BootstrapObject> {
    let (namespace, name) = ("kube-public", "system:controller:bootstrap-signer");
    let rules = vec![
        rule(READ, &[""], &["configmaps"]),
        named_rule(&["update"], &[""], &["configmaps"], &["cluster-info"]),
        events_rule(),
    ];
    vec![
        BootstrapObject {
            resource: "roles",
            namespace,
            object: json!({
                "apiVersion": format!("{RBAC_GROUP}/v1"), "kind": "Role",
                "metadata": metadata(name, namespace, &[]), "rules": rules,
            }),
        },
        BootstrapObject {
            resource: "rolebindings",
            namespace,
            object: json!({
                "apiVersion": format!("{RBAC_GROUP}/v1"), "kind": "RoleBinding",
                "metadata": metadata(name, namespace, &[]),
                "roleRef": {"apiGroup": RBAC_GROUP, "kind": "Role", "name": name},
                "subjects": [service_account("kube-system", "bootstrap-signer")],
            }),
        },
    ]
}
