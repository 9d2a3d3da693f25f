//! What a kind's schema says of an object: unknown fields, types, canonical values.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{Map, Value};

use crate::codec::duration;
use crate::codec::protobuf::zero;
use crate::constants::STRICT_ERRORS_MAX;
use crate::facts::{Facts, Shape, TypeFacts, TypeId};
use crate::field::quoted;
use crate::gvk::GroupVersionKind;
use crate::meta;
use crate::quantity::Quantity;
use crate::status::{ApiResult, ApiStatus};

/// The `fieldValidation` parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Unknown and duplicate fields are an error.
    Strict,
    /// ... are warnings (the default).
    #[default]
    Warn,
    Ignore,
}

impl FieldValidation {
    /// Reads the parameter; empty is the default, anything else unknown `None`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Strict" => Some(Self::Strict),
            "Ignore" => Some(Self::Ignore),
            _ => None,
        }
    }
}

/// Checks an object's fields against its kind: wrong types are an error, unknown fields are dropped, nulls
/// are removed, quantities and times take their canonical form. Gives the warnings, for `Warn`. Objects of
/// kinds without a schema are left alone.
///
/// # Errors
/// 400: `strict decoding error: unknown field "spec.foo"` for `Strict`, or a value of the wrong type.
pub fn check_fields(
    gvk: &GroupVersionKind,
    object: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> ApiResult<Vec<String>> {
    let wrong = |error: &str| {
        ApiStatus::bad_request(format!(
            "{0} in version {1:?} cannot be handled as a {0}: {error}",
            gvk.kind, gvk.version
        ))
    };
    let mut problems = prune(gvk, object).map_err(|error| wrong(&error))?;
    problems.extend(duplicates.iter().map(|path| format!("duplicate field {}", quoted(path))));
    problems.truncate(STRICT_ERRORS_MAX);
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(problems),
        FieldValidation::Strict if problems.is_empty() => Ok(problems),
        FieldValidation::Strict => Err(wrong(&strict_error(&problems))),
    }
}

/// The text of a strict error: `strict decoding error: unknown field "spec.foo"`.
pub fn strict_error(problems: &[String]) -> String {
    format!("strict decoding error: {}", problems.join(", "))
}

/// The work of `check_fields`: gives `unknown field "spec.foo"` for each field dropped.
///
/// # Errors
/// The text for the first value of the wrong type.
pub fn prune(gvk: &GroupVersionKind, object: &mut Value) -> Result<Vec<String>, String> {
    let facts = Facts::global();
    let Some(id) = facts.by_gvk(gvk) else { return Ok(Vec::new()) };
    let mut pruner = Pruner { facts, unknown: Vec::new(), error: None };
    if let Some(map) = object.as_object_mut() {
        pruner.fields(id, map, &Step::Root, true);
    }
    match pruner.error {
        Some(error) => Err(error),
        None => Ok(pruner.unknown),
    }
}

/// The way to a value, on the stack: it is only written out for an error.
enum Step<'a> {
    Root,
    Field(&'a Step<'a>, &'a str),
    Index(&'a Step<'a>, usize),
}

impl Step<'_> {
    /// `spec.containers[0].image`; without indices as Go names fields: `spec.containers.image`.
    fn path(&self, indices: bool) -> String {
        match self {
            Step::Root => String::new(),
            Step::Field(Step::Root, name) => (*name).to_owned(),
            Step::Field(parent, name) => format!("{}.{name}", parent.path(indices)),
            Step::Index(parent, index) if indices => format!("{}[{index}]", parent.path(indices)),
            Step::Index(parent, _) => parent.path(indices),
        }
    }
}

struct Pruner {
    facts: &'static Facts,
    unknown: Vec<String>,
    error: Option<String>,
}

impl Pruner {
    fn fields(&mut self, id: TypeId, map: &mut Map<String, Value>, at: &Step, root: bool) {
        let ty = self.facts.get(id);
        let mut drop: Vec<String> = Vec::new();
        for (name, value) in map.iter_mut() {
            if root && (name == "apiVersion" || name == "kind") {
                continue;
            }
            let step = Step::Field(at, name);
            let Some(field) = ty.fields.get(name) else {
                // apiVersion and kind of nested objects (a list's items) belong to their kind.
                if !(ty.gvk.is_some() && (name == "apiVersion" || name == "kind")) {
                    self.note_unknown(&step);
                    drop.push(name.clone());
                }
                continue;
            };
            if value.is_null() {
                drop.push(name.clone());
                continue;
            }
            self.value(ty, &field.shape, value, &step);
        }
        for name in drop {
            map.remove(&name);
        }
    }

    fn note_unknown(&mut self, step: &Step) {
        if self.unknown.len() < STRICT_ERRORS_MAX {
            self.unknown.push(format!("unknown field {}", quoted(&step.path(true))));
        }
    }

    fn value(&mut self, owner: &TypeFacts, shape: &Shape, value: &mut Value, at: &Step) {
        match shape {
            Shape::Struct(id) => match value {
                Value::Object(map) => self.fields(*id, map, at, false),
                Value::Null => *value = zero(shape),
                _ => self.mistyped(owner, shape, value, at),
            },
            Shape::List(inner) | Shape::NamedList(inner) => match value {
                Value::Array(list) => {
                    for (index, item) in list.iter_mut().enumerate() {
                        self.value(owner, inner, item, &Step::Index(at, index));
                    }
                }
                _ => self.mistyped(owner, shape, value, at),
            },
            Shape::Map(inner) => match value {
                Value::Object(map) => {
                    for (key, item) in map.iter_mut() {
                        self.value(owner, inner, item, &Step::Field(at, key));
                    }
                }
                _ => self.mistyped(owner, shape, value, at),
            },
            Shape::Raw | Shape::Fields | Shape::Any => {}
            _ if value.is_null() => *value = zero(shape),
            _ => self.scalar(owner, shape, value, at),
        }
    }

    fn scalar(&mut self, owner: &TypeFacts, shape: &Shape, value: &mut Value, at: &Step) {
        let fits = match shape {
            Shape::String => value.is_string(),
            Shape::Bool => value.is_boolean(),
            Shape::Int32 => value.as_i64().is_some_and(|v| i32::try_from(v).is_ok()),
            Shape::Int64 => value.is_i64() || value.as_i64().is_some(),
            Shape::Float64 => value.is_number(),
            Shape::IntOrString => value.is_string() || value.as_i64().is_some_and(|v| i32::try_from(v).is_ok()),
            _ => return self.text_form(shape, value),
        };
        if !fits {
            self.mistyped(owner, shape, value, at);
        }
    }

    /// Values whose text has a canonical form.
    fn text_form(&mut self, shape: &Shape, value: &mut Value) {
        let text = value.as_str().unwrap_or_default();
        let canonical = match shape {
            Shape::Quantity => Quantity::from_value(value).map(|q| q.to_string()).map_err(|error| error.to_string()),
            Shape::Time if text.is_empty() && value.is_string() => Ok(String::new()),
            Shape::Time | Shape::MicroTime => canonical_time(text, *shape == Shape::MicroTime),
            Shape::Bytes => canonical_base64(text),
            Shape::Duration => duration::parse(text)
                .map(duration::text)
                .ok_or_else(|| format!("time: invalid duration {}", quoted(text))),
            _ => return,
        };
        match canonical {
            Ok(canonical) if *value != canonical => *value = Value::from(canonical),
            Ok(_) => {}
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
    }

    fn mistyped(&mut self, owner: &TypeFacts, shape: &Shape, value: &Value, at: &Step) {
        if self.error.is_some() {
            return;
        }
        let given = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if matches!(shape, Shape::Int32 | Shape::Int64) => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let (path, wanted) = (at.path(false), self.go_type(shape));
        let owner = owner.short_name();
        self.error =
            Some(format!("json: cannot unmarshal {given} into Go struct field {owner}.{path} of type {wanted}"));
    }

    /// The type as the reference's messages name it.
    fn go_type(&self, shape: &Shape) -> String {
        match shape {
            Shape::String => "string".into(),
            Shape::Bool => "bool".into(),
            Shape::Int32 => "int32".into(),
            Shape::Int64 => "int64".into(),
            Shape::Float64 => "float64".into(),
            Shape::Bytes => "[]uint8".into(),
            Shape::Time => "v1.Time".into(),
            Shape::MicroTime => "v1.MicroTime".into(),
            Shape::Duration => "v1.Duration".into(),
            Shape::Quantity => "resource.Quantity".into(),
            Shape::IntOrString => "intstr.IntOrString".into(),
            Shape::Raw | Shape::Any => "runtime.RawExtension".into(),
            Shape::Fields => "v1.FieldsV1".into(),
            Shape::Struct(id) => {
                let name = &self.facts.get(*id).name;
                name.split_once('.').map_or(name.clone(), |(_, rest)| rest.to_owned())
            }
            Shape::List(inner) | Shape::NamedList(inner) => format!("[]{}", self.go_type(inner)),
            Shape::Map(inner) => format!("map[string]{}", self.go_type(inner)),
        }
    }
}

fn canonical_time(text: &str, micro: bool) -> Result<String, String> {
    let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let (seconds, nanoseconds) = meta::parse_rfc3339(text)
        .ok_or_else(|| format!("parsing time {} as {}: cannot parse", quoted(text), quoted(layout)))?;
    Ok(if micro { meta::micro_time_from_unix(seconds, nanoseconds) } else { meta::rfc3339_from_unix(seconds) })
}

fn canonical_base64(text: &str) -> Result<String, String> {
    let mut clean = text;
    let joined: String;
    if text.contains(['\n', '\r']) {
        joined = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        clean = &joined;
    }
    match STANDARD.decode(clean) {
        Ok(_) => Ok(clean.to_owned()),
        Err(error) => Err(format!("illegal base64 data at input byte {}", base64_error_at(&error, clean))),
    }
}

fn base64_error_at(error: &base64::DecodeError, text: &str) -> usize {
    match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len() / 4 * 4,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> GroupVersionKind {
        GroupVersionKind::new("apps", "v1", "Deployment")
    }

    fn sample() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "creationTimestamp": null},
            "spec": {"replicas": 1, "foo": 1, "template": {"metadata": {"labels": {"a": null}}, "spec": {"containers": [
                {"name": "c", "bar": {}, "resources": {"requests": {"cpu": "1000m", "memory": 1024}}}]}}}, "status": {}})
    }

    #[test]
    fn unknown_fields_are_dropped_and_named() {
        let mut object = sample();
        let warnings =
            check_fields(&deployment(), &mut object, &["spec.replicas".into()], FieldValidation::Warn).unwrap();
        assert_eq!(
            warnings,
            [
                "unknown field \"spec.foo\"",
                "unknown field \"spec.template.spec.containers[0].bar\"",
                "duplicate field \"spec.replicas\""
            ]
        );
        assert_eq!(
            object,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
                "spec": {"replicas": 1, "template": {"metadata": {"labels": {"a": ""}}, "spec": {"containers": [
                    {"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1024"}}}]}}}, "status": {}})
        );
    }

    #[test]
    fn strict_errors_have_the_known_text() {
        let error = check_fields(&deployment(), &mut sample(), &[], FieldValidation::Strict).unwrap_err();
        assert_eq!((error.code, error.reason.as_str()), (400, "BadRequest"));
        assert_eq!(
            error.message,
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \
             \"spec.foo\", unknown field \"spec.template.spec.containers[0].bar\""
        );
        assert!(check_fields(&deployment(), &mut sample(), &[], FieldValidation::Ignore).unwrap().is_empty());
    }

    #[test]
    fn wrong_types_are_errors() {
        let cases = [
            (json!({"spec": {"replicas": "x"}}), "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"),
            (json!({"spec": {"replicas": 1.5}}), "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"),
            (json!({"spec": {"replicas": 5_000_000_000_i64}}), "json: cannot unmarshal number 5000000000 into Go struct field DeploymentSpec.spec.replicas of type int32"),
            (json!({"spec": []}), "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec"),
            (json!({"metadata": {"labels": {"a": 1}}}), "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels.a of type string"),
            (json!({"spec": {"template": {"spec": {"containers": [{"image": true}]}}}}), "json: cannot unmarshal bool into Go struct field Container.spec.template.spec.containers.image of type string"),
        ];
        for (mut object, text) in cases {
            assert_eq!(prune(&deployment(), &mut object), Err(text.to_owned()));
        }
    }

    #[test]
    fn values_take_their_canonical_form() {
        let secret = GroupVersionKind::new("", "v1", "Secret");
        let mut object =
            json!({"metadata": {"creationTimestamp": "2026-01-02T05:04:05.5+02:00"}, "data": {"a": "YWJj\n"}});
        prune(&secret, &mut object).unwrap();
        assert_eq!(object, json!({"metadata": {"creationTimestamp": "2026-01-02T03:04:05Z"}, "data": {"a": "YWJj"}}));
        assert_eq!(
            prune(&secret, &mut json!({"data": {"a": "!"}})),
            Err("illegal base64 data at input byte 0".to_owned())
        );
        assert!(prune(&secret, &mut json!({"metadata": {"creationTimestamp": "x"}})).is_err());
    }

    #[test]
    fn kinds_without_a_schema_are_left_alone() {
        let mut object = json!({"a": 1});
        assert_eq!(prune(&GroupVersionKind::new("x", "v1", "Y"), &mut object), Ok(Vec::new()));
        assert_eq!(object, json!({"a": 1}));
    }
}
