//! Role-based access control: rules, bindings, aggregation, escalation, and the bootstrap roles.

use std::sync::Arc;

use keelstone_access::{
    authz::{bootstrap_objects, PolicyRule, Rbac},
    Attributes, FixedLister, User,
};
use proptest::prelude::*;
use serde_json::{json, Value};

const GROUP: &str = "rbac.authorization.k8s.io";

fn with(objects: &[(&str, Value)]) -> Rbac {
    let mut lister = FixedLister::default();
    for (resource, object) in objects {
        lister.add(GROUP, resource, object.clone());
    }
    Rbac::new(Arc::new(lister))
}

fn bootstrapped(more: &[(&str, Value)]) -> Rbac {
    let mut objects: Vec<(&str, Value)> = bootstrap_objects().into_iter().map(|o| (o.resource, o.object)).collect();
    objects.extend_from_slice(more);
    with(&objects)
}

fn role(rule: Value) -> (&'static str, Value) {
    ("clusterroles", json!({"metadata": {"name": "r"}, "rules": [rule]}))
}

fn binding(subject: Value) -> (&'static str, Value) {
    let role_ref = json!({"kind": "ClusterRole", "name": "r"});
    ("clusterrolebindings", json!({"metadata": {"name": "b"}, "roleRef": role_ref, "subjects": [subject]}))
}

fn alice() -> Value {
    json!({"kind": "User", "name": "alice"})
}

fn asks(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let mut asked = Attributes::resource(&User::new("alice", &["dev"]), verb, group, resource, namespace, name);
    asked.subresource = subresource.into();
    asked
}

#[test]
fn rules_match_verbs_groups_resources_and_names() {
    let cases = [
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), "get", "", "pods", "x", true),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), "list", "", "pods", "", false),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), "get", "", "pods/log", "x", false),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]}), "get", "", "pods/log", "x", true),
        (json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}), "get", "apps", "deployments/scale", "", true),
        (json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*/scale"]}), "get", "apps", "x/scale", "", true),
        (json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*/scale"]}), "get", "apps", "x/status", "", false),
        (json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["pods"]}), "get", "", "pods", "", false),
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
            "get",
            "",
            "pods",
            "a",
            true,
        ),
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
            "get",
            "",
            "pods",
            "b",
            false,
        ),
        (json!({"verbs": "get"}), "get", "", "pods", "", false),
    ];
    for (rule, verb, group, resource, name, allowed) in cases {
        let rbac = with(&[role(rule.clone()), binding(alice())]);
        assert_eq!(rbac.authorize(&asks(verb, group, resource, "n", name)).allowed, allowed, "{rule}");
    }
}

#[test]
fn subjects_are_users_groups_and_accounts() {
    let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    let robot = User::service_account("n", "robot", "u");
    let cases = [
        (json!({"kind": "Group", "name": "dev"}), User::new("x", &["dev"]), true),
        (json!({"kind": "Group", "name": "dev"}), User::new("dev", &[]), false),
        (json!({"kind": "ServiceAccount", "namespace": "n", "name": "robot"}), robot.clone(), true),
        (json!({"kind": "ServiceAccount", "namespace": "m", "name": "robot"}), robot.clone(), false),
        (json!({"kind": "User", "name": "system:serviceaccount:n:robot"}), robot, true),
    ];
    for (subject, user, allowed) in cases {
        let rbac = with(&[role(rule.clone()), binding(subject.clone())]);
        let asked = Attributes::resource(&user, "get", "", "pods", "n", "");
        assert_eq!(rbac.authorize(&asked).allowed, allowed, "{subject}");
    }
}

#[test]
fn a_role_binding_holds_in_its_namespace_only() {
    let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    let bound = json!({
        "metadata": {"name": "b", "namespace": "n"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
        "subjects": [alice()],
    });
    let rbac = with(&[role(rule), ("rolebindings", bound)]);
    let decision = rbac.authorize(&asks("get", "", "pods", "n", "p"));
    assert_eq!(decision.reason, "RBAC: allowed by RoleBinding \"b/n\" of ClusterRole \"r\" to User \"alice\"");
    assert!(!rbac.authorize(&asks("get", "", "pods", "m", "p")).allowed);
    assert!(!rbac.authorize(&asks("get", "", "pods", "", "p")).allowed);
}

#[test]
fn paths_and_masters() {
    let rbac = with(&[role(json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]})), binding(alice())]);
    let path = |user: &str, path: &str| Attributes {
        user: User::new(user, &[]),
        verb: "get".into(),
        path: path.into(),
        ..Attributes::default()
    };
    assert!(rbac.authorize(&path("alice", "/api/v1")).allowed);
    assert!(!rbac.authorize(&path("alice", "/healthz/x")).allowed);
    let refused = path("bob", "/metrics");
    assert!(!rbac.authorize(&refused).allowed);
    assert_eq!(refused.forbidden("").message, "forbidden: User \"bob\" cannot get path \"/metrics\"");
    let master = Attributes { user: User::new("root", &["system:masters"]), ..refused };
    assert!(with(&[]).authorize(&master).allowed);
}

#[test]
fn aggregated_roles_gather_rules_that_are_added_later() {
    let more = json!({
        "metadata": {"name": "more", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["things"]}],
    });
    let bound = json!({
        "metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [alice()],
    });
    let rbac = bootstrapped(&[("clusterroles", more), ("clusterrolebindings", bound)]);
    for (verb, group, resource) in
        [("get", "example.com", "things"), ("list", "", "pods"), ("delete", "", "secrets"), ("create", GROUP, "roles")]
    {
        assert!(rbac.authorize(&asks(verb, group, resource, "n", "")).allowed, "{verb} {resource}");
    }
    assert!(!rbac.authorize(&asks("delete", "", "nodes", "", "")).allowed);
}

#[test]
fn components_may_do_their_work() {
    let rbac = bootstrapped(&[]);
    let controller = |name: &str| User::service_account("kube-system", name, "u");
    let node = User::new("system:node:w1", &["system:nodes"]);
    let scheduler = User::new("system:kube-scheduler", &[]);
    let cases = [
        (&node, "update", "", "nodes/status", true),
        (&node, "create", "", "serviceaccounts/token", true),
        (&node, "update", "coordination.k8s.io", "leases", true),
        (&node, "create", "", "secrets", false),
        (&scheduler, "create", "", "pods/binding", true),
        (&scheduler, "delete", "", "nodes", false),
        (&controller("deployment-controller"), "create", "apps", "replicasets", true),
        (&controller("deployment-controller"), "create", "", "pods", false),
        (&controller("replicaset-controller"), "create", "", "pods", true),
        (&controller("node-controller"), "patch", "", "nodes", true),
        (&controller("generic-garbage-collector"), "delete", "apps", "replicasets", true),
        (&controller("endpointslice-controller"), "create", "discovery.k8s.io", "endpointslices", true),
    ];
    for (user, verb, group, resource, allowed) in cases {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let mut asked = Attributes::resource(user, verb, group, resource, "n", "");
        asked.subresource = subresource.into();
        assert_eq!(rbac.authorize(&asked).allowed, allowed, "{} {verb} {resource}", user.name);
    }
}

#[test]
fn nobody_grants_what_they_do_not_hold() {
    let rule = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]});
    let rbac = with(&[role(rule), binding(alice())]);
    let user = User::new("alice", &[]);
    let wants = |rule: Value| {
        let role = json!({"metadata": {"name": "new"}, "rules": [rule]});
        rbac.check_role_write(&user, "roles", "n", &role, None)
    };
    assert!(wants(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]})).is_ok());
    let refused = wants(json!({"verbs": ["delete"], "apiGroups": [""], "resources": ["pods"]})).unwrap_err();
    assert_eq!(
        refused.message,
        "roles.rbac.authorization.k8s.io \"new\" is forbidden: user \"alice\" (groups=[]) is attempting to grant RBAC \
         permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
    );
    let bind = json!({"metadata": {"name": "x"}, "roleRef": {"kind": "ClusterRole", "name": "missing"}});
    assert_eq!(rbac.check_binding_write(&user, "rolebindings", "n", &bind, None).unwrap_err().code, 404);
    let master = User::new("root", &["system:masters"]);
    assert!(rbac.check_binding_write(&master, "rolebindings", "n", &bind, None).is_ok());
}

fn rules() -> impl Strategy<Value = PolicyRule> {
    let some = |all: &'static [&'static str]| {
        prop::sample::subsequence(all, 1..=all.len()).prop_map(|l| l.into_iter().map(String::from).collect::<Vec<_>>())
    };
    (some(&["get", "list", "*"]), some(&["", "apps", "*"]), some(&["pods", "pods/log", "*/log", "*"]), 0..3u8).prop_map(
        |(verbs, api_groups, resources, named)| PolicyRule {
            verbs,
            api_groups,
            resources,
            resource_names: (0..named).map(|i| format!("n{i}")).collect(),
            ..PolicyRule::default()
        },
    )
}

proptest! {
    /// What a rule that covers another's parts allows is at least what the other allows.
    #[test]
    fn covering_rules_allow_what_covered_rules_allow(held in rules(), wanted in rules()) {
        let covered = wanted.break_down().iter().all(|part| held.covers(part));
        let allowed = |rule: &PolicyRule, asked: &Attributes| {
            with(&[role(json!(rule)), binding(alice())]).authorize(asked).allowed
        };
        for verb in ["get", "list", "delete"] {
            for group in ["", "apps", "x"] {
                for (resource, name) in [("pods", "n0"), ("pods/log", "n1"), ("x/log", ""), ("x", "n9")] {
                    let asked = asks(verb, group, resource, "n", name);
                    if covered && allowed(&wanted, &asked) {
                        prop_assert!(allowed(&held, &asked), "{verb} {group}/{resource} {name}");
                    }
                }
            }
        }
        prop_assert!(wanted.break_down().iter().all(|part| wanted.covers(part)));
    }
}
