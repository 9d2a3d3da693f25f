//! Nobody grants what they do not hold themselves (API document "Using RBAC", privilege escalation).

use keelstone_machinery::{gvk::GroupResource, status::ApiStatus};
use serde_json::Value;

use super::{rbac::RBAC_GROUP, PolicyRule, Rbac};
use crate::{user::MASTERS, Attributes, User};

impl Rbac {
    /// Checks a role or cluster role that is about to be written: its rules must be held by the user, unless
    /// the user may `escalate` it. `resource` is `roles` or `clusterroles`.
    pub fn check_role_write(
        &self,
        user: &User,
        resource: &str,
        namespace: &str,
        role: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiStatus> {
        let unchanged = old.is_some_and(|old| {
            old.get("rules") == role.get("rules") && old.get("aggregationRule") == role.get("aggregationRule")
        });
        if unchanged || self.holds_verb(user, "escalate", resource, namespace, role) {
            return Ok(());
        }
        if role.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
            // An aggregated role may come to hold anything, so its author must hold everything.
            let all = PolicyRule {
                verbs: vec!["*".into()],
                api_groups: vec!["*".into()],
                resources: vec!["*".into()],
                ..PolicyRule::default()
            };
            let urls =
                PolicyRule { verbs: vec!["*".into()], non_resource_urls: vec!["*".into()], ..PolicyRule::default() };
            return self.check_held(user, resource, namespace, role, &[all, urls]);
        }
        self.check_held(user, resource, namespace, role, &PolicyRule::of_role(role))
    }

    /// Checks a binding that is about to be written: the rules of the role that it binds must be held by the
    /// user, unless the user may `bind` that role. `resource` is `rolebindings` or `clusterrolebindings`.
    pub fn check_binding_write(
        &self,
        user: &User,
        resource: &str,
        namespace: &str,
        binding: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiStatus> {
        let same = |key: &str| old.is_some_and(|old| old.get(key) == binding.get(key));
        if same("subjects") && same("roleRef") {
            return Ok(());
        }
        let role_ref = &binding["roleRef"];
        let role_name = role_ref["name"].as_str().unwrap_or_default();
        let role_resource = if role_ref["kind"] == "ClusterRole" { "clusterroles" } else { "roles" };
        let named = serde_json::json!({"metadata": {"name": role_name}});
        if self.holds_verb(user, "bind", role_resource, namespace, &named) {
            return Ok(());
        }
        let Some(rules) = self.rules_of_reference(namespace, role_ref) else {
            let missing = GroupResource { group: RBAC_GROUP.into(), resource: role_resource.into() };
            return Err(ApiStatus::not_found(&missing, role_name));
        };
        self.check_held(user, resource, namespace, binding, &rules)
    }

    fn holds_verb(&self, user: &User, verb: &str, resource: &str, namespace: &str, object: &Value) -> bool {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        user.in_group(MASTERS)
            || self.authorize(&Attributes::resource(user, verb, RBAC_GROUP, resource, namespace, name)).allowed
    }

    fn check_held(
        &self,
        user: &User,
        resource: &str,
        namespace: &str,
        object: &Value,
        wanted: &[PolicyRule],
    ) -> Result<(), ApiStatus> {
        let held = self.rules_for(user, namespace);
        let mut missing: Vec<PolicyRule> = Vec::new();
        for rule in wanted {
            let whole_held = rule.break_down().iter().all(|part| held.iter().any(|h| h.covers(part)));
            if !whole_held {
                missing.push(rule.clone());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort();
        let groups: Vec<String> = user.groups.iter().map(|g| format!("{g:?}")).collect();
        let lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let message = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            groups.join(" "),
            lines.join("\n")
        );
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let resource = GroupResource { group: RBAC_GROUP.into(), resource: resource.into() };
        Err(ApiStatus::forbidden(&resource, name, &message))
    }
}
