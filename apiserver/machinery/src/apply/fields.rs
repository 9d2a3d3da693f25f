//! Sets of fields, and their form in managedFields (FieldsV1).

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

/// One step of a path. The order is that of managedFields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// `f:name`: a field of a struct or an entry of a map.
    Field(String),
    /// `k:{"name":"a"}`: an item of a list, by its keys, as canonical JSON.
    Key(String),
    /// `v:"a"`: an item of a set, as JSON.
    Value(String),
    /// `i:0`.
    Index(usize),
}

/// A set of paths, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// True if this path itself is in the set.
    pub member: bool,
    pub children: BTreeMap<Element, FieldSet>,
}

impl Element {
    fn parse(text: &str) -> Option<Self> {
        let (prefix, rest) = text.split_once(':')?;
        Some(match prefix {
            "f" => Self::Field(rest.to_owned()),
            "k" => Self::Key(canonical(&serde_json::from_str::<Value>(rest).ok().filter(Value::is_object)?)),
            "v" => Self::Value(canonical(&serde_json::from_str(rest).ok()?)),
            "i" => Self::Index(rest.parse().ok()?),
            _ => return None,
        })
    }

    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(json) => format!("k:{json}"),
            Self::Value(json) => format!("v:{json}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// As conflicts show it: `.name`, `[name="a"]`, `[="a"]`, `[0]`.
    fn shown(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Key(json) => {
                let keys = serde_json::from_str::<BTreeMap<String, Value>>(json).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("[{}]", keys.join(","))
            }
            Self::Value(json) => format!("[={json}]"),
            Self::Index(index) => format!("[{index}]"),
        }
    }
}

/// JSON with sorted keys, whatever the map's own order.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            let mut out = String::from("{");
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                let _ = write!(out, "{comma}{}:{}", Value::from(key.as_str()), canonical(value));
            }
            out.push('}');
            out
        }
        Value::Array(list) => format!("[{}]", list.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(FieldSet::is_empty)
    }

    pub fn child(&mut self, element: Element) -> &mut FieldSet {
        self.children.entry(element).or_default()
    }

    pub fn field(&mut self, name: &str) -> &mut FieldSet {
        self.child(Element::Field(name.to_owned()))
    }

    pub fn union(&mut self, other: &FieldSet) {
        self.member |= other.member;
        for (element, child) in &other.children {
            self.child(element.clone()).union(child);
        }
    }

    /// Removes the paths of `other`.
    pub fn subtract(&mut self, other: &FieldSet) {
        self.member &= !other.member;
        self.children.retain(|element, child| {
            if let Some(other) = other.children.get(element) {
                child.subtract(other);
            }
            !child.is_empty()
        });
    }

    #[must_use]
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut out = FieldSet { member: self.member && other.member, children: BTreeMap::new() };
        for (element, child) in &self.children {
            if let Some(other) = other.children.get(element) {
                let both = child.intersection(other);
                if !both.is_empty() {
                    out.children.insert(element.clone(), both);
                }
            }
        }
        out
    }

    /// All paths, as conflicts show them.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, prefix: &str, out: &mut Vec<String>) {
        if self.member {
            out.push(prefix.to_owned());
        }
        for (element, child) in &self.children {
            child.collect(&format!("{prefix}{}", element.shown()), out);
        }
    }

    /// FieldsV1.
    pub fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (element, child) in self.children.iter().filter(|(_, child)| !child.is_empty()) {
            let mut value = child.to_value();
            if let (true, Value::Object(map)) = (child.member, &mut value) {
                if !map.is_empty() {
                    map.insert(".".into(), Value::Object(Map::new()));
                }
            }
            out.insert(element.text(), value);
        }
        Value::Object(out)
    }

    /// Reads FieldsV1; `None` if it is none.
    pub fn from_value(value: &Value) -> Option<Self> {
        let mut out = Self::default();
        for (key, value) in value.as_object()? {
            if key == "." {
                out.member = true;
                continue;
            }
            let mut child = Self::from_value(value)?;
            child.member |= child.children.is_empty();
            out.children.insert(Element::parse(key)?, child);
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_v1() {
        let value = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {"f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}}, "f:set": {"v:\"x\"": {}}, "f:list": {"i:3": {}}}});
        let set = FieldSet::from_value(&value).unwrap();
        assert_eq!(set.to_value(), value);
        assert_eq!(
            set.paths(),
            [
                ".metadata.labels",
                ".metadata.labels.a",
                ".spec.list[3]",
                ".spec.ports[containerPort=80,protocol=\"TCP\"]",
                ".spec.ports[containerPort=80,protocol=\"TCP\"].name",
                ".spec.set[=\"x\"]",
            ]
        );
        for wrong in [json!([]), json!({"x": {}}), json!({"f:a": 1}), json!({"k:1": {}}), json!({"i:x": {}})] {
            assert_eq!(FieldSet::from_value(&wrong), None, "{wrong}");
        }
    }

    fn sets() -> impl Strategy<Value = FieldSet> {
        prop::collection::vec(prop::collection::vec("[abc]", 1..4), 0..8).prop_map(|paths| {
            let mut set = FieldSet::default();
            for path in paths {
                let mut at = &mut set;
                for name in path {
                    at = at.field(&name);
                }
                at.member = true;
            }
            set
        })
    }

    proptest! {
        #[test]
        fn sets_obey_their_laws(a in sets(), b in sets()) {
            let mut both = a.clone();
            both.union(&b);
            let mut rest = both.clone();
            rest.subtract(&b);
            let mut only = a.clone();
            only.subtract(&b);
            prop_assert_eq!(rest.paths(), only.paths());
            prop_assert!(only.intersection(&b).is_empty());
            prop_assert_eq!(both.intersection(&a).paths(), a.paths());
            prop_assert_eq!(FieldSet::from_value(&a.to_value()).unwrap().paths(), a.paths());
        }
    }
}
