//! The table of schema facts: for every type of the API its fields with their JSON names, protobuf numbers and
//! types, list and map types, patch strategies, defaults and enumerations. One table drives decoding, pruning,
//! patches, server-side apply and OpenAPI. It is made by `keelstone-xtask facts`.

mod table;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::gvk::GroupVersionKind;

/// All types. `Facts::global()` is the table of the stable Kubernetes API.
#[derive(Debug, Default)]
pub struct Facts {
    types: Vec<TypeFacts>,
    by_name: BTreeMap<String, TypeId>,
    by_gvk: BTreeMap<GroupVersionKind, TypeId>,
}

/// A type's index in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeId(usize);

#[derive(Debug)]
pub struct TypeFacts {
    /// Package and Go name: `core.v1.Pod`.
    pub name: String,
    pub gvk: Option<GroupVersionKind>,
    /// Owned as one in server-side apply (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// By JSON name; the fields of inlined structs are here too.
    pub fields: BTreeMap<String, FieldFacts>,
    /// The message's fields by rising number.
    pub wire: Vec<WireField>,
}

/// A field of the protobuf message.
#[derive(Debug)]
pub enum WireField {
    Field {
        number: u32,
        json: String,
    },
    /// A struct whose fields JSON has inline and protobuf in a message of its own.
    Inline {
        number: u32,
        id: TypeId,
    },
}

#[derive(Clone, Debug)]
pub struct FieldFacts {
    pub shape: Shape,
    /// 0 if the type has no protobuf form.
    pub number: u32,
    /// Optional in the sense that a zero value differs from a missing one.
    pub pointer: bool,
    pub required: bool,
    /// A zero value is left out (unless `pointer`).
    pub omit: bool,
    pub list: ListType,
    /// The keys of a list of type `Map`.
    pub keys: Vec<String>,
    /// The map (or struct) in this field is owned as one: `Some` overrides what its type says.
    pub atomic: Option<bool>,
    /// `patchStrategy: merge`.
    pub patch_merge: bool,
    /// `patchStrategy: retainKeys`.
    pub retain_keys: bool,
    pub merge_key: Option<String>,
    pub enumeration: Vec<String>,
    pub default: Option<Value>,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// What values a field takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    Float64,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    /// Go's form: `1h30m`.
    Duration,
    Quantity,
    IntOrString,
    /// Any object, of whatever kind.
    Raw,
    /// The set of fields in managedFields.
    Fields,
    /// Any JSON value.
    Any,
    Struct(TypeId),
    List(Box<Shape>),
    Map(Box<Shape>),
    /// A list that protobuf wraps in a message.
    NamedList(Box<Shape>),
}

static TABLE: &str = include_str!("../facts/kubernetes-1.37.txt");

impl Facts {
    /// The table of the stable API, read at the first call.
    pub fn global() -> &'static Facts {
        static GLOBAL: OnceLock<Facts> = OnceLock::new();
        // A test reads the same table, so that an error cannot get this far.
        GLOBAL.get_or_init(|| table::read(TABLE).unwrap_or_default())
    }

    pub fn get(&self, id: TypeId) -> &TypeFacts {
        &self.types[id.0]
    }

    /// By package and name: `core.v1.Pod`.
    pub fn by_name(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// By kind. The kinds of `meta.k8s.io` (DeleteOptions, Status) belong to every group.
    pub fn by_gvk(&self, gvk: &GroupVersionKind) -> Option<TypeId> {
        self.by_gvk.get(gvk).copied().or_else(|| {
            let shared = GroupVersionKind::new("meta.k8s.io", "v1", &gvk.kind);
            self.by_gvk.get(&shared).copied()
        })
    }

    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<&TypeFacts> {
        self.by_gvk(gvk).map(|id| self.get(id))
    }

    pub fn types(&self) -> impl Iterator<Item = (TypeId, &TypeFacts)> {
        self.types.iter().enumerate().map(|(index, facts)| (TypeId(index), facts))
    }

    /// The struct that a shape is or has as items, if any.
    pub fn struct_of(&self, shape: &Shape) -> Option<&TypeFacts> {
        match shape {
            Shape::Struct(id) => Some(self.get(*id)),
            Shape::List(inner) | Shape::Map(inner) | Shape::NamedList(inner) => self.struct_of(inner),
            _ => None,
        }
    }
}

impl TypeFacts {
    /// The type's name in OpenAPI documents: `io.k8s.api.core.v1.Pod`.
    pub fn openapi_name(&self) -> String {
        match self.name.strip_prefix("meta.v1.") {
            Some(name) => format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"),
            None => format!("io.k8s.api.{}", self.name),
        }
    }

    /// The name without its package: `Pod`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// False for the few types that only have a JSON form (Table).
    pub fn has_protobuf(&self) -> bool {
        self.wire.iter().all(|field| !matches!(field, WireField::Field { number: 0, .. }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The kinds of the first issue.
    const SERVED: &[(&str, &str, &str)] = &[
        ("", "v1", "Namespace Pod Node Service Endpoints ConfigMap Secret ServiceAccount Event Binding List Status"),
        ("", "v1", "PodList NodeList DeleteOptions PatchOptions CreateOptions UpdateOptions"),
        ("events.k8s.io", "v1", "Event EventList DeleteOptions"),
        ("discovery.k8s.io", "v1", "EndpointSlice EndpointSliceList"),
        ("apps", "v1", "Deployment ReplicaSet DeploymentList StatefulSet DaemonSet ControllerRevision"),
        ("coordination.k8s.io", "v1", "Lease LeaseList"),
        ("rbac.authorization.k8s.io", "v1", "Role ClusterRole RoleBinding ClusterRoleBinding RoleList"),
        ("authentication.k8s.io", "v1", "TokenRequest TokenReview SelfSubjectReview"),
        ("authorization.k8s.io", "v1", "SelfSubjectAccessReview SubjectAccessReview LocalSubjectAccessReview"),
        ("authorization.k8s.io", "v1", "SelfSubjectRulesReview"),
        ("autoscaling", "v1", "Scale HorizontalPodAutoscaler"),
        ("autoscaling", "v2", "HorizontalPodAutoscaler"),
        ("policy", "v1", "Eviction PodDisruptionBudget"),
        ("batch", "v1", "Job CronJob"),
        ("scheduling.k8s.io", "v1", "PriorityClass"),
        ("networking.k8s.io", "v1", "Ingress NetworkPolicy"),
    ];

    fn reach(facts: &Facts, id: TypeId, seen: &mut BTreeSet<TypeId>) {
        if !seen.insert(id) {
            return;
        }
        let ty = facts.get(id);
        let numbers: BTreeSet<u32> = ty
            .wire
            .iter()
            .map(|w| match w {
                WireField::Field { number, .. } | WireField::Inline { number, .. } => *number,
            })
            .collect();
        assert_eq!(numbers.len(), ty.wire.len(), "{}: a number is used twice", ty.name);
        for (name, field) in &ty.fields {
            assert!(field.number > 0, "{}.{name} has no number", ty.name);
            assert_eq!(field.list == ListType::Map, !field.keys.is_empty(), "{}.{name}: keys of a map list", ty.name);
            if let Some(item) = facts.struct_of(&field.shape) {
                for key in &field.keys {
                    assert!(item.fields.contains_key(key), "{}.{name}: no key {key}", ty.name);
                }
                reach(facts, facts.by_name(&item.name).unwrap(), seen);
            }
        }
    }

    #[test]
    fn the_table_is_well_formed() {
        table::read(TABLE).unwrap();
    }

    #[test]
    fn every_served_field_has_a_type_and_a_number() {
        let facts = Facts::global();
        let mut seen = BTreeSet::new();
        for (group, version, kinds) in SERVED {
            for kind in kinds.split(' ') {
                let gvk = GroupVersionKind::new(group, version, kind);
                reach(facts, facts.by_gvk(&gvk).unwrap_or_else(|| panic!("{gvk:?}")), &mut seen);
            }
        }
        assert!(seen.len() > 250, "{}", seen.len());
    }

    #[test]
    fn some_known_facts() {
        let facts = Facts::global();
        let container = facts.get(facts.by_name("core.v1.Container").unwrap());
        let ports = &container.fields["ports"];
        assert_eq!((ports.number, ports.list, ports.merge_key.as_deref()), (6, ListType::Map, Some("containerPort")));
        assert_eq!(ports.keys, ["containerPort", "protocol"]);
        let port = facts.struct_of(&ports.shape).unwrap();
        assert_eq!(port.fields["protocol"].default, Some(Value::from("TCP")));
        assert_eq!(port.fields["protocol"].enumeration, ["SCTP", "TCP", "UDP"]);
        let volume = facts.get(facts.by_name("core.v1.Volume").unwrap());
        assert!(volume.fields.contains_key("hostPath"), "inlined fields are found");
        assert_eq!(volume.openapi_name(), "io.k8s.api.core.v1.Volume");
        let spec = facts.get(facts.by_name("core.v1.PodSpec").unwrap());
        assert_eq!(spec.fields["nodeSelector"].atomic, Some(true));
        assert!(spec.fields["volumes"].retain_keys && spec.fields["volumes"].patch_merge);
    }
}
