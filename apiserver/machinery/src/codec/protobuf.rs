//! Kubernetes protobuf: the four bytes `k8s\0`, then a `runtime.Unknown` around the object's message.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{Map, Value};

use crate::constants::BODY_DEPTH_MAX;
use crate::facts::{Facts, FieldFacts, Shape, TypeFacts, TypeId, WireField};
use crate::gvk::{parse_api_version, GroupVersionKind};
use crate::meta;
use crate::status::{ApiResult, ApiStatus};

use super::duration;
use super::wire::{put_bytes, put_double, put_int, Raw, Reader};

pub(super) const MAGIC: &[u8] = b"k8s\0";

/// Decodes an object with its envelope.
pub(super) fn decode(body: &[u8], default: Option<&GroupVersionKind>) -> ApiResult<Value> {
    let unknown = body.strip_prefix(MAGIC).ok_or_else(|| {
        ApiStatus::bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    })?;
    let (mut api_version, mut kind, mut raw) = ("", "", &[][..]);
    let mut reader = Reader::new(unknown);
    while let Some(item) = reader.next()? {
        match item.number {
            1 => {
                let mut type_meta = Reader::new(item.value.bytes()?);
                while let Some(item) = type_meta.next()? {
                    match item.number {
                        1 => api_version = item.value.text()?,
                        2 => kind = item.value.text()?,
                        _ => {}
                    }
                }
            }
            2 => raw = item.value.bytes()?,
            _ => {}
        }
    }
    let gvk = match default {
        Some(default) if kind.is_empty() => default.clone(),
        _ => {
            let (group, version) = parse_api_version(api_version);
            GroupVersionKind::new(group, version, kind)
        }
    };
    let facts = Facts::global();
    let id = facts.by_gvk(&gvk).ok_or_else(|| no_kind(&gvk))?;
    let mut map = Map::new();
    Decoder { facts }.message(id, raw, &mut map, 0)?;
    let mut object = Value::Object(map);
    meta::set_gvk(&mut object, &gvk);
    Ok(object)
}

fn no_kind(gvk: &GroupVersionKind) -> ApiStatus {
    ApiStatus::bad_request(format!("no kind {:?} is registered for version {:?}", gvk.kind, gvk.api_version()))
}

struct Decoder {
    facts: &'static Facts,
}

impl Decoder {
    fn message(&self, id: TypeId, bytes: &[u8], out: &mut Map<String, Value>, depth: usize) -> ApiResult<()> {
        if depth > BODY_DEPTH_MAX {
            return Err(ApiStatus::bad_request("proto: exceeded max depth"));
        }
        let ty = self.facts.get(id);
        let mut reader = Reader::new(bytes);
        while let Some(item) = reader.next()? {
            match wire_field(ty, item.number) {
                Some(WireField::Inline { id, .. }) => self.message(*id, item.value.bytes()?, out, depth + 1)?,
                Some(WireField::Field { json, .. }) => {
                    if let Some(field) = ty.fields.get(json) {
                        self.field(json, field, &item.value, out, depth)?;
                    }
                }
                // A field of a newer version: dropped, as the reference does.
                None => {}
            }
        }
        Ok(())
    }

    fn field(
        &self,
        name: &str,
        field: &FieldFacts,
        raw: &Raw,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> ApiResult<()> {
        match &field.shape {
            Shape::List(inner) => {
                let value = self.value(inner, raw, depth)?;
                if let Value::Array(list) = out.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                    list.push(value.unwrap_or(Value::Null));
                }
            }
            Shape::Map(inner) => {
                let (key, value) = self.entry(inner, raw, depth)?;
                if let Value::Object(map) = out.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                    map.insert(key, value);
                }
            }
            shape => {
                let Some(value) = self.value(shape, raw, depth)? else { return Ok(()) };
                if field.pointer || !field.omit || !is_zero(&value) {
                    out.insert(name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    fn entry(&self, inner: &Shape, raw: &Raw, depth: usize) -> ApiResult<(String, Value)> {
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(raw.bytes()?);
        while let Some(item) = reader.next()? {
            match item.number {
                1 => item.value.text()?.clone_into(&mut key),
                2 => value = self.value(inner, &item.value, depth + 1)?,
                _ => {}
            }
        }
        Ok((key, value.unwrap_or_else(|| zero(inner))))
    }

    /// `None` for a time that is not set and an empty raw object.
    fn value(&self, shape: &Shape, raw: &Raw, depth: usize) -> ApiResult<Option<Value>> {
        Ok(Some(match shape {
            Shape::String => Value::from(raw.text()?),
            Shape::Bool => Value::from(raw.varint()? != 0),
            Shape::Int32 => Value::from(raw.int()? as i32),
            Shape::Int64 => Value::from(raw.int()?),
            Shape::Float64 => Value::from(raw.double()?),
            Shape::Bytes => Value::from(STANDARD.encode(raw.bytes()?)),
            Shape::Time => return time(raw, false),
            Shape::MicroTime => return time(raw, true),
            Shape::Duration => Value::from(duration::text(one_int(raw, 1)?)),
            Shape::Quantity => Value::from(one_text(raw, 1)?),
            Shape::IntOrString => int_or_string(raw)?,
            Shape::Raw | Shape::Fields | Shape::Any => return embedded(raw),
            Shape::Struct(id) => {
                let mut map = Map::new();
                self.message(*id, raw.bytes()?, &mut map, depth + 1)?;
                Value::Object(map)
            }
            Shape::NamedList(inner) => {
                let mut list = Vec::new();
                let mut reader = Reader::new(raw.bytes()?);
                while let Some(item) = reader.next()? {
                    list.extend(self.value(inner, &item.value, depth + 1)?);
                }
                Value::Array(list)
            }
            Shape::List(_) | Shape::Map(_) => return Err(ApiStatus::internal("nested lists have no protobuf form")),
        }))
    }
}

fn wire_field(ty: &TypeFacts, number: u32) -> Option<&WireField> {
    let of = |w: &WireField| match w {
        WireField::Field { number, .. } | WireField::Inline { number, .. } => *number,
    };
    ty.wire.binary_search_by_key(&number, of).ok().map(|at| &ty.wire[at])
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// The value that a missing map value or list item stands for.
pub(crate) fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes => Value::from(""),
        Shape::Bool => Value::from(false),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString | Shape::Float64 => Value::from(0),
        Shape::Quantity => Value::from("0"),
        Shape::Duration => Value::from("0s"),
        Shape::Struct(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(_) | Shape::NamedList(_) => Value::Array(Vec::new()),
        Shape::Time | Shape::MicroTime | Shape::Raw | Shape::Fields | Shape::Any => Value::Null,
    }
}

fn one_int(raw: &Raw, number: u32) -> ApiResult<i64> {
    let mut out = 0;
    let mut reader = Reader::new(raw.bytes()?);
    while let Some(item) = reader.next()? {
        if item.number == number {
            out = item.value.int()?;
        }
    }
    Ok(out)
}

fn one_text<'a>(raw: &Raw<'a>, number: u32) -> ApiResult<&'a str> {
    let mut out = "";
    let mut reader = Reader::new(raw.bytes()?);
    while let Some(item) = reader.next()? {
        if item.number == number {
            out = item.value.text()?;
        }
    }
    Ok(out)
}

fn time(raw: &Raw, micro: bool) -> ApiResult<Option<Value>> {
    let (mut seconds, mut nanoseconds, mut set) = (0, 0, false);
    let mut reader = Reader::new(raw.bytes()?);
    while let Some(item) = reader.next()? {
        set = true;
        match item.number {
            1 => seconds = item.value.int()?,
            2 => nanoseconds = u32::try_from(item.value.int()?.clamp(0, 999_999_999)).unwrap_or(0),
            _ => {}
        }
    }
    if !set {
        return Ok(None);
    }
    let text = if micro { meta::micro_time_from_unix(seconds, nanoseconds) } else { meta::rfc3339_from_unix(seconds) };
    Ok(Some(Value::from(text)))
}

fn int_or_string(raw: &Raw) -> ApiResult<Value> {
    let (mut is_text, mut int, mut text) = (false, 0, "");
    let mut reader = Reader::new(raw.bytes()?);
    while let Some(item) = reader.next()? {
        match item.number {
            1 => is_text = item.value.varint()? == 1,
            2 => int = item.value.int()?,
            3 => text = item.value.text()?,
            _ => {}
        }
    }
    Ok(if is_text { Value::from(text) } else { Value::from(int as i32) })
}

/// RawExtension and FieldsV1: JSON, or an object in an envelope of its own.
fn embedded(raw: &Raw) -> ApiResult<Option<Value>> {
    let mut bytes = &[][..];
    let mut reader = Reader::new(raw.bytes()?);
    while let Some(item) = reader.next()? {
        if item.number == 1 {
            bytes = item.value.bytes()?;
        }
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.starts_with(MAGIC) {
        return decode(bytes, None).map(Some);
    }
    super::json::decode(bytes).map(|decoded| Some(decoded.object))
}

/// Encodes an object with its envelope.
pub(super) fn encode(object: &Value) -> ApiResult<Vec<u8>> {
    let gvk = meta::gvk(object);
    let facts = Facts::global();
    let id = facts.by_gvk(&gvk).ok_or_else(|| ApiStatus::not_acceptable(&[super::JSON, super::YAML]))?;
    if !facts.get(id).has_protobuf() {
        return Err(ApiStatus::not_acceptable(&[super::JSON, super::YAML]));
    }
    let mut raw = Vec::new();
    if let Some(map) = object.as_object() {
        Encoder { facts }.message(id, map, &mut raw)?;
    }
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, meta::api_version(object).as_bytes());
    put_bytes(&mut type_meta, 2, gvk.kind.as_bytes());
    let mut out = Vec::with_capacity(raw.len() + type_meta.len() + 24);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &type_meta);
    put_bytes(&mut out, 2, &raw);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    Ok(out)
}

struct Encoder {
    facts: &'static Facts,
}

fn mistyped(name: &str) -> ApiStatus {
    ApiStatus::internal(format!("field {name} does not fit its schema"))
}

impl Encoder {
    fn message(&self, id: TypeId, map: &Map<String, Value>, out: &mut Vec<u8>) -> ApiResult<()> {
        let ty = self.facts.get(id);
        for wire in &ty.wire {
            match wire {
                WireField::Inline { number, id } => {
                    let mut inner = Vec::new();
                    self.message(*id, map, &mut inner)?;
                    put_bytes(out, *number, &inner);
                }
                WireField::Field { number, json } => {
                    let (Some(value), Some(field)) = (map.get(json), ty.fields.get(json)) else { continue };
                    if !value.is_null() {
                        self.field(*number, &field.shape, value, out).ok_or_else(|| mistyped(json))??;
                    }
                }
            }
        }
        Ok(())
    }

    /// `None` if the value is not of its shape.
    fn field(&self, number: u32, shape: &Shape, value: &Value, out: &mut Vec<u8>) -> Option<ApiResult<()>> {
        match shape {
            Shape::String => put_bytes(out, number, value.as_str()?.as_bytes()),
            Shape::Bool => put_int(out, number, i64::from(value.as_bool()?)),
            Shape::Int32 | Shape::Int64 => put_int(out, number, value.as_i64()?),
            Shape::Float64 => put_double(out, number, value.as_f64()?),
            Shape::Bytes => put_bytes(out, number, &STANDARD.decode(value.as_str()?).ok()?),
            Shape::List(inner) => {
                for item in value.as_array()? {
                    if let Err(error) = self.field(number, inner, item, out)? {
                        return Some(Err(error));
                    }
                }
            }
            Shape::Map(inner) => {
                for (key, value) in value.as_object()? {
                    let mut entry = Vec::new();
                    put_bytes(&mut entry, 1, key.as_bytes());
                    if value.is_null() {
                        // A time that is not set: an empty message.
                        put_bytes(&mut entry, 2, b"");
                    } else if let Err(error) = self.field(2, inner, value, &mut entry)? {
                        return Some(Err(error));
                    }
                    put_bytes(out, number, &entry);
                }
            }
            _ => {
                let mut inner = Vec::new();
                if let Err(error) = self.submessage(shape, value, &mut inner)? {
                    return Some(Err(error));
                }
                put_bytes(out, number, &inner);
            }
        }
        Some(Ok(()))
    }

    fn submessage(&self, shape: &Shape, value: &Value, out: &mut Vec<u8>) -> Option<ApiResult<()>> {
        match shape {
            Shape::Time | Shape::MicroTime => {
                let (seconds, nanoseconds) = meta::parse_rfc3339(value.as_str()?)?;
                put_int(out, 1, seconds);
                put_int(out, 2, if *shape == Shape::MicroTime { i64::from(nanoseconds) } else { 0 });
            }
            Shape::Duration => put_int(out, 1, duration::parse(value.as_str()?)?),
            Shape::Quantity => put_bytes(out, 1, value.as_str()?.as_bytes()),
            Shape::IntOrString => {
                put_int(out, 1, i64::from(value.is_string()));
                put_int(out, 2, if value.is_string() { 0 } else { value.as_i64()? });
                put_bytes(out, 3, value.as_str().unwrap_or_default().as_bytes());
            }
            Shape::Raw | Shape::Fields | Shape::Any => put_bytes(out, 1, value.to_string().as_bytes()),
            Shape::Struct(id) => return Some(self.message(*id, value.as_object()?, out)),
            Shape::NamedList(inner) => {
                for item in value.as_array()? {
                    if let Err(error) = self.field(1, inner, item, out)? {
                        return Some(Err(error));
                    }
                }
            }
            _ => return None,
        }
        Some(Ok(()))
    }
}
