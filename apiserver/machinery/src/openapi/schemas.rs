//! Definitions of types.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{json, Map, Value};

use crate::facts::{Facts, FieldFacts, ListType, Shape, TypeFacts, TypeId};
use crate::gvk::GroupVersionKind;

use super::docs::{self, TypeDocs};

/// Which of the two documents a definition is for; they refer to types and describe references differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V2,
    V3,
}

pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const DURATION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Duration";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

impl Version {
    pub fn reference(self, name: &str) -> Value {
        let prefix = match self {
            Version::V2 => "#/definitions/",
            Version::V3 => "#/components/schemas/",
        };
        json!({ "$ref": format!("{prefix}{name}") })
    }
}

/// Collects types and what they refer to.
pub(super) struct Schemas {
    version: Version,
    facts: &'static Facts,
    out: BTreeMap<String, Value>,
    seen: BTreeSet<TypeId>,
}

impl Schemas {
    pub fn new(version: Version) -> Self {
        Self { version, facts: Facts::global(), out: BTreeMap::new(), seen: BTreeSet::new() }
    }

    pub fn into_value(self) -> Value {
        Value::Object(self.out.into_iter().collect())
    }

    /// Adds a kind; gives its definition's name, `None` if it has no schema.
    pub fn add_kind(&mut self, gvk: &GroupVersionKind) -> Option<String> {
        let id = self.facts.by_gvk(gvk)?;
        self.add(id);
        Some(self.facts.get(id).openapi_name())
    }

    pub fn add_patch(&mut self) {
        let schema =
            json!({"description": "A patch of an object, in one of the forms that PATCH takes.", "type": "object"});
        self.out.insert(PATCH.to_owned(), schema);
    }

    fn add(&mut self, id: TypeId) {
        if !self.seen.insert(id) {
            return;
        }
        let facts = self.facts;
        let ty = facts.get(id);
        let name = ty.openapi_name();
        let docs = docs::of(&name);
        let mut properties = Map::new();
        if ty.gvk.is_some() {
            for (name, text) in [
                ("apiVersion", "Group and version of the schema that this object follows, as group/version."),
                ("kind", "The kind of this object, in CamelCase. It cannot be changed."),
            ] {
                let text = docs.and_then(|d| d.fields.get(name)).map_or(text, String::as_str);
                properties.insert(name.into(), json!({"description": text, "type": "string"}));
            }
        }
        let mut required = Vec::new();
        for (name, field) in &ty.fields {
            properties.insert(name.clone(), self.property(name, field, docs));
            if field.required {
                required.push(Value::from(name.as_str()));
            }
        }
        let description = match (docs, ty.short_name().strip_suffix("List")) {
            (Some(docs), _) => docs.description.clone(),
            (None, Some(item)) => format!("A list of objects of kind {item}."),
            (None, None) => String::new(),
        };
        let mut schema = json!({ "description": description, "type": "object" });
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            schema["required"] = Value::Array(required);
        }
        if ty.atomic {
            schema["x-kubernetes-map-type"] = Value::from("atomic");
        }
        if let Some(kinds) = group_version_kinds(ty) {
            schema["x-kubernetes-group-version-kind"] = kinds;
        }
        self.out.insert(name, schema);
    }

    fn property(&mut self, name: &str, field: &FieldFacts, docs: Option<&TypeDocs>) -> Value {
        let mut schema = self.shape(&field.shape);
        if self.version == Version::V3 && schema.get("$ref").is_some() {
            schema = json!({ "allOf": [schema] });
        }
        let of_list = match name {
            "items" => Some("The objects of the list."),
            "metadata" => Some("Metadata of the list: its resourceVersion, and how to go on."),
            _ => None,
        };
        let text = match docs {
            Some(docs) => docs.fields.get(name).map(String::as_str),
            None => of_list,
        };
        if let Some(text) = text {
            schema["description"] = Value::from(text);
        }
        if let Some(default) = &field.default {
            schema["default"] = default.clone();
        }
        if !field.enumeration.is_empty() && matches!(field.shape, Shape::String) {
            schema["enum"] = field.enumeration.iter().map(String::as_str).collect();
        }
        if matches!(field.shape, Shape::List(_)) {
            let list = match field.list {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            };
            schema["x-kubernetes-list-type"] = Value::from(list);
        }
        if !field.keys.is_empty() {
            schema["x-kubernetes-list-map-keys"] = field.keys.iter().map(String::as_str).collect();
        }
        if let Some(atomic) = field.atomic {
            schema["x-kubernetes-map-type"] = Value::from(if atomic { "atomic" } else { "granular" });
        }
        let strategy = match (field.patch_merge, field.retain_keys) {
            (true, true) => "merge,retainKeys",
            (true, false) => "merge",
            (false, true) => "retainKeys",
            (false, false) => "",
        };
        if !strategy.is_empty() {
            schema["x-kubernetes-patch-strategy"] = Value::from(strategy);
        }
        if let Some(key) = &field.merge_key {
            schema["x-kubernetes-patch-merge-key"] = Value::from(key.as_str());
        }
        schema
    }

    fn shape(&mut self, shape: &Shape) -> Value {
        match shape {
            Shape::String => json!({"type": "string"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Float64 => json!({"type": "number", "format": "double"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Time => self.named(TIME, "A point in time (RFC 3339), in whole seconds.", "string", "date-time"),
            Shape::MicroTime => {
                self.named(MICRO_TIME, "A point in time (RFC 3339), in microseconds.", "string", "date-time")
            }
            Shape::Duration => self.named(DURATION, "A span of time such as 1h30m.", "string", ""),
            Shape::Fields => self.named(FIELDS, "A set of fields.", "object", ""),
            Shape::Quantity => {
                self.named(QUANTITY, "An amount, with an optional suffix: 100m, 1.5Gi, 2e3.", "string", "")
            }
            Shape::IntOrString => {
                self.named(INT_OR_STRING, "A number or a string, such as a percentage.", "string", "int-or-string")
            }
            Shape::Raw => self.named(RAW, "An object of any kind.", "object", ""),
            Shape::Any => json!({}),
            Shape::Struct(id) => {
                self.add(*id);
                self.version.reference(&self.facts.get(*id).openapi_name())
            }
            Shape::List(inner) | Shape::NamedList(inner) => json!({"type": "array", "items": self.shape(inner)}),
            Shape::Map(inner) => json!({"type": "object", "additionalProperties": self.shape(inner)}),
        }
    }

    /// A scalar that has a definition of its own.
    fn named(&mut self, name: &str, fallback: &str, kind: &str, format: &str) -> Value {
        if !self.out.contains_key(name) {
            let text = docs::of(name).map(|d| d.description.as_str()).filter(|d| !d.is_empty()).unwrap_or(fallback);
            let mut schema = json!({ "description": text, "type": kind });
            if !format.is_empty() {
                schema["format"] = Value::from(format);
            }
            if self.version == Version::V3 && matches!(name, QUANTITY | INT_OR_STRING) {
                let kind = if name == QUANTITY { "number" } else { "integer" };
                schema["oneOf"] = json!([{"type": "string"}, {"type": kind}]);
                schema.as_object_mut().map(|map| map.remove("type"));
            }
            self.out.insert(name.to_owned(), schema);
        }
        self.version.reference(name)
    }
}

fn group_version_kinds(ty: &TypeFacts) -> Option<Value> {
    let gvk = ty.gvk.as_ref()?;
    let group = if gvk.group == "meta.k8s.io" { "" } else { &gvk.group };
    Some(json!([{"group": group, "version": gvk.version, "kind": gvk.kind}]))
}
