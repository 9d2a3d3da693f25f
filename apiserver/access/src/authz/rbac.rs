use std::{borrow::Cow, sync::Arc};

use keelstone_machinery::selector::LabelSelector;
use serde_json::Value;

use super::rule::{stored_rule_allows, PolicyRule};
use crate::{user::MASTERS, Attributes, Listed, Lister, User};

pub(super) const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// What the authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// Why, in Kubernetes' words; empty if there is nothing to say.
    pub reason: String,
}

/// Role-based access control: a request is allowed if any rule of any role bound to its user allows it.
/// Roles and bindings are read from memory, so decisions need no quorum.
#[derive(Clone)]
pub struct Rbac {
    lister: Arc<dyn Lister>,
}

impl Rbac {
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister }
    }

    /// Decides one request. The group `system:masters` may do everything.
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        if attributes.user.in_group(MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        let combined = attributes.combined_resource();
        let mut reason = String::new();
        self.visit_rules(&attributes.user, &attributes.namespace, |rule, describe| {
            let allowed = stored_rule_allows(rule, attributes, &combined);
            if allowed {
                reason = format!("RBAC: allowed by {}", describe());
            }
            !allowed
        });
        Decision { allowed: !reason.is_empty(), reason }
    }

    /// All rules that hold for the user in the namespace (and at cluster scope).
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let mut rules = Vec::new();
        self.visit_rules(user, namespace, |rule, _| {
            rules.extend(serde_json::from_value::<PolicyRule>(rule.clone()));
            true
        });
        rules
    }

    /// The rules of the role that a binding in `namespace` (empty for a cluster binding) refers to; `None` if
    /// the role is not there.
    pub fn rules_of_reference(&self, namespace: &str, role_ref: &Value) -> Option<Vec<PolicyRule>> {
        let role = self.find_role(namespace, role_ref)?;
        Some(self.rules_of(&role).iter().filter_map(|r| serde_json::from_value(r.clone()).ok()).collect())
    }

    /// Calls `visit` with every rule that applies until it returns false.
    fn visit_rules(&self, user: &User, namespace: &str, mut visit: impl FnMut(&Value, &dyn Fn() -> String) -> bool) {
        for binding in self.lister.list(RBAC_GROUP, "clusterrolebindings", None) {
            if !self.visit_binding(user, "", &binding, &mut visit) {
                return;
            }
        }
        if namespace.is_empty() {
            return;
        }
        for binding in self.lister.list(RBAC_GROUP, "rolebindings", Some(namespace)) {
            if !self.visit_binding(user, namespace, &binding, &mut visit) {
                return;
            }
        }
    }

    fn visit_binding(
        &self,
        user: &User,
        namespace: &str,
        binding: &Value,
        visit: &mut impl FnMut(&Value, &dyn Fn() -> String) -> bool,
    ) -> bool {
        let subjects = binding.get("subjects").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let Some(subject) = subjects.iter().find(|s| subject_is(s, user, namespace)) else {
            return true;
        };
        let role_ref = &binding["roleRef"];
        let Some(role) = self.find_role(namespace, role_ref) else {
            return true;
        };
        let describe = || describe_binding(binding, namespace, role_ref, subject);
        self.rules_of(&role).iter().all(|rule| visit(rule, &describe))
    }

    fn find_role(&self, namespace: &str, role_ref: &Value) -> Option<Listed> {
        let name = role_ref.get("name")?.as_str()?;
        match role_ref.get("kind")?.as_str()? {
            "ClusterRole" => self.lister.get(RBAC_GROUP, "clusterroles", "", name),
            "Role" if !namespace.is_empty() => self.lister.get(RBAC_GROUP, "roles", namespace, name),
            _ => None,
        }
    }

    /// A role's rules; those of an aggregated role are gathered from the roles that its selectors match, so
    /// that they hold whether or not a controller has written them into the role.
    fn rules_of<'a>(&self, role: &'a Value) -> Cow<'a, [Value]> {
        let own = || role.get("rules").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let Some(selectors) = role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array) else {
            return Cow::Borrowed(own());
        };
        let mut rules = Vec::new();
        self.gather(selectors, &mut vec![role_name(role)], &mut rules);
        Cow::Owned(rules)
    }

    /// Adds the rules of the roles that `selectors` match; `seen` keeps circles from running forever.
    fn gather(&self, selectors: &[Value], seen: &mut Vec<String>, rules: &mut Vec<Value>) {
        let selectors: Vec<_> = selectors.iter().filter_map(|s| LabelSelector::from_value(s).ok()).collect();
        for role in self.lister.list(RBAC_GROUP, "clusterroles", None) {
            let labels = keelstone_machinery::meta::labels_map(&role);
            if seen.contains(&role_name(&role)) || !selectors.iter().any(|s| s.matches(&labels)) {
                continue;
            }
            seen.push(role_name(&role));
            match role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array) {
                Some(inner) => self.gather(inner, seen, rules),
                None => rules.extend(role.get("rules").and_then(Value::as_array).into_iter().flatten().cloned()),
            }
        }
    }
}

fn role_name(role: &Value) -> String {
    role.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn subject_is(subject: &Value, user: &User, binding_namespace: &str) -> bool {
    let name = text(subject, "name");
    match text(subject, "kind") {
        "User" => user.name == name,
        "Group" => user.in_group(name),
        "ServiceAccount" => {
            let namespace = match text(subject, "namespace") {
                "" => binding_namespace,
                namespace => namespace,
            };
            !namespace.is_empty() && user.service_account_name() == Some((namespace, name))
        }
        _ => false,
    }
}

fn describe_binding(binding: &Value, namespace: &str, role_ref: &Value, subject: &Value) -> String {
    let name = role_name(binding);
    let (kind, name) = match namespace {
        "" => ("ClusterRoleBinding", name),
        namespace => ("RoleBinding", format!("{name}/{namespace}")),
    };
    let subject = match text(subject, "kind") {
        kind @ "ServiceAccount" => format!("{kind} \"{}/{}\"", text(subject, "name"), text(subject, "namespace")),
        kind => format!("{kind} {:?}", text(subject, "name")),
    };
    format!("{kind} {name:?} of {} {:?} to {subject}", text(role_ref, "kind"), text(role_ref, "name"))
}
