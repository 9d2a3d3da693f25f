//! Reads the table's text.
//!
//! `T core.v1.Pod gvk=/v1/Pod` starts a type (`atomic` may follow); `F name number kind flags` is a field of it,
//! `I number kind` an inlined struct. Kinds: `string`, `int32`, `quantity` ...; `@core.v1.PodSpec` a struct;
//! the prefixes `?` pointer, `[]` list, `{}` map by strings, `<>` a named list. Flags: `req`, `omit`, `list=`,
//! `keys=`, `map=`, `struct=`, `patch=`, `mergekey=`, `enum=a|b` (`+` for a space), and last `default=` with JSON.

use std::collections::BTreeMap;

use crate::gvk::GroupVersionKind;

use super::{Facts, FieldFacts, ListType, Shape, TypeFacts, TypeId, WireField};

pub(super) fn read(text: &str) -> Result<Facts, String> {
    let mut facts = Facts::default();
    for line in text.lines().filter_map(|line| line.strip_prefix("T ")) {
        let id = TypeId(facts.types.len());
        let ty = header(line)?;
        facts.by_name.insert(ty.name.clone(), id);
        if let Some(gvk) = &ty.gvk {
            facts.by_gvk.insert(gvk.clone(), id);
        }
        facts.types.push(ty);
    }
    let mut current = None;
    for line in text.lines() {
        let next = current.map_or(0, |at: usize| at + 1);
        match line.split_at_checked(2) {
            Some(("T ", _)) => current = Some(next),
            Some(("F ", rest)) => field(&mut facts, current, rest)?,
            Some(("I ", rest)) => inline(&mut facts, current, rest)?,
            _ if line.starts_with('#') => {}
            _ => return Err(format!("unknown line {line:?}")),
        }
    }
    flatten(&mut facts);
    Ok(facts)
}

fn header(line: &str) -> Result<TypeFacts, String> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default().to_owned();
    let (mut gvk, mut atomic) = (None, false);
    for word in words {
        if word == "atomic" {
            atomic = true;
        } else {
            let parts: Vec<&str> = word.strip_prefix("gvk=").ok_or(line)?.split('/').collect();
            let [group, version, kind] = parts[..] else { return Err(line.to_owned()) };
            gvk = Some(GroupVersionKind::new(group, version, kind));
        }
    }
    Ok(TypeFacts { name, gvk, atomic, fields: BTreeMap::new(), wire: Vec::new() })
}

fn field(facts: &mut Facts, current: Option<usize>, rest: &str) -> Result<(), String> {
    let (rest, default) = match rest.split_once(" default=") {
        Some((rest, json)) => (rest, Some(serde_json::from_str(json).map_err(|error| format!("{rest}: {error}"))?)),
        None => (rest, None),
    };
    let mut words = rest.split(' ');
    let (Some(json), Some(number), Some(kind)) = (words.next(), words.next(), words.next()) else {
        return Err(rest.to_owned());
    };
    let mut out = FieldFacts {
        shape: shape(facts, kind.trim_start_matches('?'))?,
        number: number.parse().map_err(|_| rest.to_owned())?,
        pointer: kind.starts_with('?'),
        required: false,
        omit: false,
        list: ListType::Atomic,
        keys: Vec::new(),
        atomic: None,
        patch_merge: false,
        retain_keys: false,
        merge_key: None,
        enumeration: Vec::new(),
        default,
    };
    for word in words {
        let (flag, value) = word.split_once('=').unwrap_or((word, ""));
        match flag {
            "req" => out.required = true,
            "omit" => out.omit = true,
            "list" => {
                out.list = match value {
                    "set" => ListType::Set,
                    "map" => ListType::Map,
                    _ => ListType::Atomic,
                }
            }
            "keys" => out.keys = value.split(',').map(str::to_owned).collect(),
            "map" | "struct" => out.atomic = Some(value == "atomic"),
            "patch" => {
                out.patch_merge = value.contains("merge");
                out.retain_keys = value.contains("retainKeys");
            }
            "mergekey" => out.merge_key = Some(value.to_owned()),
            "enum" => out.enumeration = value.split('|').map(|v| v.replace('+', " ")).collect(),
            _ => return Err(rest.to_owned()),
        }
    }
    let ty = &mut facts.types[current.ok_or(rest)?];
    ty.wire.push(WireField::Field { number: out.number, json: json.to_owned() });
    ty.fields.insert(json.to_owned(), out);
    Ok(())
}

fn inline(facts: &mut Facts, current: Option<usize>, rest: &str) -> Result<(), String> {
    let (number, kind) = rest.split_once(' ').ok_or(rest)?;
    let Shape::Struct(id) = shape(facts, kind)? else { return Err(rest.to_owned()) };
    let number = number.parse().map_err(|_| rest.to_owned())?;
    facts.types[current.ok_or(rest)?].wire.push(WireField::Inline { number, id });
    Ok(())
}

fn shape(facts: &Facts, kind: &str) -> Result<Shape, String> {
    let inner = |kind: &str| shape(facts, kind).map(Box::new);
    if let Some(rest) = kind.strip_prefix("[]") {
        return Ok(Shape::List(inner(rest)?));
    }
    if let Some(rest) = kind.strip_prefix("{}") {
        return Ok(Shape::Map(inner(rest)?));
    }
    if let Some(rest) = kind.strip_prefix("<>[]") {
        return Ok(Shape::NamedList(inner(rest)?));
    }
    if let Some(name) = kind.strip_prefix('@') {
        return facts.by_name(name).map(Shape::Struct).ok_or_else(|| format!("{name} is not in the table"));
    }
    Ok(match kind {
        "string" => Shape::String,
        "bool" => Shape::Bool,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "float64" => Shape::Float64,
        "bytes" => Shape::Bytes,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "duration" => Shape::Duration,
        "quantity" => Shape::Quantity,
        "intorstring" => Shape::IntOrString,
        "raw" => Shape::Raw,
        "fields" => Shape::Fields,
        "any" => Shape::Any,
        _ => return Err(format!("unknown kind {kind}")),
    })
}

/// Gives every type the JSON fields of what it inlines, and sorts messages by number.
fn flatten(facts: &mut Facts) {
    for index in 0..facts.types.len() {
        let mut fields = BTreeMap::new();
        inlined(facts, TypeId(index), &mut fields);
        let ty = &mut facts.types[index];
        for (name, field) in fields {
            ty.fields.entry(name).or_insert(field);
        }
    }
    for ty in &mut facts.types {
        ty.wire.sort_by_key(|w| match w {
            WireField::Field { number, .. } | WireField::Inline { number, .. } => *number,
        });
    }
}

fn inlined(facts: &Facts, id: TypeId, out: &mut BTreeMap<String, FieldFacts>) {
    for wire in &facts.get(id).wire {
        if let WireField::Inline { id, .. } = wire {
            out.extend(facts.get(*id).fields.iter().map(|(name, field)| (name.clone(), field.clone())));
            inlined(facts, *id, out);
        }
    }
}
