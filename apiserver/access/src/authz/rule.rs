use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Attributes;

const ALL: &str = "*";

/// One rule of a role (`rbac.authorization.k8s.io/v1 PolicyRule`).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

impl PolicyRule {
    /// The rules of a stored role. A rule that cannot be read grants nothing.
    pub fn of_role(role: &Value) -> Vec<Self> {
        let rules = role.get("rules").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        rules.iter().filter_map(|rule| serde_json::from_value(rule.clone()).ok()).collect()
    }

    /// True if the rule grants all that `wanted` does; `wanted` must name one verb and one resource or path,
    /// as [`PolicyRule::break_down`] makes them.
    pub fn covers(&self, wanted: &Self) -> bool {
        let verbs = covers_all(&self.verbs, &wanted.verbs);
        let groups = covers_all(&self.api_groups, &wanted.api_groups);
        let resources = wanted.resources.iter().all(|r| resource_matches(self.resources.iter().map(String::as_str), r));
        let names = self.resource_names.is_empty()
            || (!wanted.resource_names.is_empty()
                && wanted.resource_names.iter().all(|n| self.resource_names.contains(n)));
        let urls = wanted
            .non_resource_urls
            .iter()
            .all(|u| self.non_resource_urls.iter().any(|pattern| url_covers(pattern, u)));
        verbs && groups && resources && names && urls
    }

    /// Splits into rules of one verb and one resource (with one name) or path each.
    pub fn break_down(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        let one = |s: &String| vec![s.clone()];
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let base =
                        Self { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Self::default() };
                    if self.resource_names.is_empty() {
                        parts.push(base);
                    } else {
                        parts.extend(
                            self.resource_names.iter().map(|n| Self { resource_names: one(n), ..base.clone() }),
                        );
                    }
                }
            }
        }
        for url in &self.non_resource_urls {
            for verb in &self.verbs {
                parts.push(Self { verbs: one(verb), non_resource_urls: one(url), ..Self::default() });
            }
        }
        parts
    }
}

/// Kubernetes' compact form, used in the message of a refused escalation.
impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let quoted = |list: &Vec<String>| list.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(" ");
        let parts: Vec<String> =
            fields.iter().filter(|(_, l)| !l.is_empty()).map(|(name, l)| format!("{name}:[{}]", quoted(l))).collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// True if a stored rule allows the request. Reads the JSON in place: this runs on every request.
pub(super) fn stored_rule_allows(rule: &Value, attributes: &Attributes, combined: &str) -> bool {
    if !contains_or_all(texts(rule, "verbs"), &attributes.verb) {
        return false;
    }
    if !attributes.is_resource {
        return texts(rule, "nonResourceURLs").any(|pattern| url_matches(pattern, &attributes.path));
    }
    let names = || texts(rule, "resourceNames");
    contains_or_all(texts(rule, "apiGroups"), &attributes.group)
        && resource_matches(texts(rule, "resources"), combined)
        && (names().next().is_none() || names().any(|name| name == attributes.name))
}

fn texts<'a>(rule: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    rule.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn contains_or_all<'a>(mut list: impl Iterator<Item = &'a str>, wanted: &str) -> bool {
    list.any(|item| item == ALL || item == wanted)
}

/// `*` is every resource and subresource, `*/scale` the subresource of every resource.
fn resource_matches<'a>(mut list: impl Iterator<Item = &'a str>, combined: &str) -> bool {
    let subresource = combined.split_once('/').map(|(_, s)| s);
    list.any(|item| {
        item == ALL
            || item == combined
            || subresource.is_some_and(|s| item.strip_prefix("*/").is_some_and(|wanted| wanted == s))
    })
}

fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == ALL || pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

fn url_covers(pattern: &str, wanted: &str) -> bool {
    pattern == wanted || pattern.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix))
}

fn covers_all(list: &[String], wanted: &[String]) -> bool {
    list.iter().any(|item| item == ALL) || wanted.iter().all(|w| list.contains(w))
}
