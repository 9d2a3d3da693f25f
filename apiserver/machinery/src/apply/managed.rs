//! `metadata.managedFields`: who owns which fields.

use serde_json::{json, Value};

use crate::constants::UPDATE_MANAGERS_MAX;
use crate::field::quoted;
use crate::gvk::GroupVersionKind;
use crate::meta;

use super::fields::FieldSet;

/// One entry of managedFields.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub manager: String,
    /// By apply, else by update.
    pub applied: bool,
    pub api_version: String,
    pub subresource: String,
    /// RFC 3339.
    pub time: String,
    pub fields: FieldSet,
}

/// Under this name the oldest Update managers are merged.
const ANCIENT: &str = "ancient-changes";

impl Entry {
    /// True if both are the same owner: for apply in whatever version.
    pub fn same_owner(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.applied == other.applied
            && self.subresource == other.subresource
            && (self.applied || self.api_version == other.api_version)
    }

    /// As conflicts name the owner.
    pub fn shown(&self) -> String {
        let mut out = quoted(&self.manager);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {}", quoted(&self.subresource)));
        }
        if !self.applied {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }

    fn from_value(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let applied = match text("operation").as_str() {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        Some(Self {
            manager: text("manager"),
            applied,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields: FieldSet::from_value(value.get("fieldsV1")?)?,
        })
    }

    fn to_value(&self) -> Value {
        let mut out = json!({
            "manager": self.manager,
            "operation": if self.applied { "Apply" } else { "Update" },
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_value(),
        });
        for (key, text) in [("subresource", &self.subresource), ("time", &self.time)] {
            if !text.is_empty() {
                out[key] = Value::from(text.as_str());
            }
        }
        out
    }
}

/// Reads an object's entries; `None` if one is malformed.
pub fn read(object: &Value) -> Option<Vec<Entry>> {
    meta::managed_fields(object).iter().map(Entry::from_value).collect()
}

/// Writes the entries that own something, in the order of the reference; removes the field if none does.
pub fn write(object: &mut Value, mut entries: Vec<Entry>) {
    for entry in &mut entries {
        strip(&mut entry.fields);
    }
    entries.retain(|entry| !entry.fields.is_empty());
    cap(&mut entries);
    entries.sort_by(|a, b| {
        let key =
            |e: &Entry| (!e.applied, e.time.clone(), e.manager.clone(), e.api_version.clone(), e.subresource.clone());
        key(a).cmp(&key(b))
    });
    let list: Vec<Value> = entries.iter().map(Entry::to_value).collect();
    meta::set(object, "managedFields", if list.is_empty() { Value::Null } else { Value::Array(list) });
}

/// Takes out what no manager can own.
pub fn strip(set: &mut FieldSet) {
    let mut fixed = FieldSet::default();
    for name in ["apiVersion", "kind", "metadata"] {
        fixed.field(name).member = true;
    }
    let names = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    for name in names {
        fixed.field("metadata").field(name).member = true;
    }
    set.subtract(&fixed);
    if let Some(metadata) = set.children.get_mut(&super::fields::Element::Field("metadata".into())) {
        metadata.children.remove(&super::fields::Element::Field("managedFields".into()));
    }
}

/// Merges the oldest Update entries into one a version, so that their number stays bounded.
fn cap(entries: &mut Vec<Entry>) {
    let updates = entries.iter().filter(|e| !e.applied && e.subresource.is_empty()).count();
    if updates <= UPDATE_MANAGERS_MAX {
        return;
    }
    let mut order: Vec<usize> =
        (0..entries.len()).filter(|i| !entries[*i].applied && entries[*i].subresource.is_empty()).collect();
    order.sort_by(|a, b| entries[*a].time.cmp(&entries[*b].time));
    // One more than the surplus goes, since what they are merged into is one again.
    order.truncate(updates - UPDATE_MANAGERS_MAX + 1);
    order.sort_unstable();
    let mut ancient: Vec<Entry> = Vec::new();
    for index in order.into_iter().rev() {
        let entry = entries.remove(index);
        match ancient.iter_mut().find(|a| a.api_version == entry.api_version) {
            Some(bucket) => {
                bucket.fields.union(&entry.fields);
                if bucket.time < entry.time {
                    bucket.time = entry.time;
                }
            }
            None => ancient.push(Entry { manager: ANCIENT.to_owned(), ..entry }),
        }
    }
    entries.extend(ancient);
}

/// A new, empty entry.
pub fn entry(gvk: &GroupVersionKind, manager: &str, applied: bool, subresource: &str, now: &str) -> Entry {
    Entry {
        manager: manager.to_owned(),
        applied,
        api_version: gvk.api_version(),
        subresource: subresource.to_owned(),
        time: now.to_owned(),
        fields: FieldSet::default(),
    }
}
