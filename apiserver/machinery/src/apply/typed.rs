//! Objects as their schema sees them: which parts are owned alone, and which as one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::facts::{Facts, FieldFacts, ListType, Shape, TypeFacts};
use crate::field::quoted;
use crate::gvk::GroupVersionKind;

use super::fields::{canonical, Element, FieldSet};

/// How a value is owned.
#[derive(Clone, Copy)]
pub enum Node<'a> {
    /// As one: scalars, atomic lists, maps and structs.
    Leaf,
    /// Field by field.
    Struct(&'a TypeFacts),
    /// Entry by entry; the values have this shape.
    Map(&'a Shape),
    /// Item by item, told apart by value.
    Set,
    /// Item by item, told apart by keys.
    ListMap(&'a FieldFacts),
    /// No schema: maps entry by entry, all else as one.
    Untyped,
}

/// The schema of a kind's objects.
pub fn root(gvk: &GroupVersionKind) -> Node<'static> {
    Facts::global().kind(gvk).map_or(Node::Untyped, Node::Struct)
}

fn of_field(field: &FieldFacts) -> Node<'_> {
    match &field.shape {
        Shape::List(_) => match field.list {
            ListType::Atomic => Node::Leaf,
            ListType::Set => Node::Set,
            ListType::Map => Node::ListMap(field),
        },
        _ if field.atomic == Some(true) => Node::Leaf,
        Shape::Struct(id) if field.atomic == Some(false) => Node::Struct(Facts::global().get(*id)),
        shape => of_shape(shape),
    }
}

fn of_shape(shape: &Shape) -> Node<'_> {
    match shape {
        Shape::Struct(id) => match Facts::global().get(*id) {
            ty if ty.atomic => Node::Leaf,
            ty => Node::Struct(ty),
        },
        Shape::Map(inner) => Node::Map(inner),
        _ => Node::Leaf,
    }
}

impl<'a> Node<'a> {
    /// The schema of an entry or field of this one.
    fn entry(self, name: &str) -> Node<'a> {
        match self {
            Node::Struct(ty) => match ty.fields.get(name) {
                Some(field) => of_field(field),
                None => Node::Untyped,
            },
            Node::Map(shape) => of_shape(shape),
            _ => Node::Untyped,
        }
    }

    fn item(self) -> Node<'a> {
        match self {
            Node::ListMap(field) => match &field.shape {
                Shape::List(inner) => of_shape(inner),
                _ => Node::Leaf,
            },
            _ => Node::Leaf,
        }
    }

    fn is_list(self) -> bool {
        matches!(self, Node::Set | Node::ListMap(_))
    }

    fn is_map(self) -> bool {
        matches!(self, Node::Struct(_) | Node::Map(_) | Node::Untyped)
    }

    /// What tells an item of this list from others.
    ///
    /// # Errors
    /// The text for a missing key.
    fn element(self, index: usize, item: &Value) -> Result<Element, String> {
        let Node::ListMap(field) = self else { return Ok(Element::Value(canonical(item))) };
        let ty = Facts::global().struct_of(&field.shape);
        let mut keys = Map::new();
        for key in &field.keys {
            let default = || ty.and_then(|ty| ty.fields.get(key)?.default.clone());
            match item.get(key).cloned().filter(|v| !v.is_null()).or_else(default) {
                Some(value) => drop(keys.insert(key.clone(), value)),
                // An item may leave a key out as long as it has another.
                None if field.keys.len() > 1 => {}
                None => {
                    return Err(format!(
                        "element {index}: associative list with keys has an element that omits key field {} (and doesn't have default value)",
                        quoted(key)
                    ));
                }
            }
        }
        Ok(Element::Key(canonical(&Value::Object(keys))))
    }

    /// The items of a list by what tells them apart; of equal ones the first.
    fn items(self, list: &[Value]) -> Vec<(Element, &Value)> {
        let mut out: Vec<(Element, &Value)> = Vec::with_capacity(list.len());
        for (index, item) in list.iter().enumerate() {
            let element = self.element(index, item).unwrap_or(Element::Index(index));
            if !out.iter().any(|(other, _)| *other == element) {
                out.push((element, item));
            }
        }
        out
    }
}

/// The fields that an applied configuration sets.
///
/// # Errors
/// The text for items without keys, or with the same.
pub fn applied_set(node: Node, value: &Value, path: &str) -> Result<FieldSet, String> {
    let mut out = FieldSet::default();
    match value {
        Value::Object(map) if node.is_map() && !map.is_empty() => {
            for (name, value) in map {
                let mut child = applied_set(node.entry(name), value, &format!("{path}.{name}"))?;
                let declared = matches!(node, Node::Struct(ty) if ty.fields.contains_key(name));
                child.member |= !declared || value.is_null() || is_empty(value);
                out.children.insert(Element::Field(name.clone()), child);
            }
        }
        Value::Array(list) if node.is_list() => {
            for (index, item) in list.iter().enumerate() {
                let element = node.element(index, item).map_err(|error| format!("{path}: {error}"))?;
                if out.children.contains_key(&element) {
                    let mut one = FieldSet::default();
                    one.child(element).member = true;
                    return Err(format!("{path}: duplicate entries for key {}", one.paths().concat()));
                }
                let mut child = applied_set(node.item(), item, path)?;
                child.member = true;
                out.children.insert(element, child);
            }
        }
        _ => out.member = true,
    }
    Ok(out)
}

/// Lays a configuration over an object.
pub fn merge(node: Node, live: &Value, config: &Value) -> Value {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) if node.is_map() => {
            let mut out = live.clone();
            for (name, value) in config {
                let merged = match live.get(name) {
                    Some(live) => merge(node.entry(name), live, value),
                    None => value.clone(),
                };
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        (Value::Array(live), Value::Array(config)) if node.is_list() => Value::Array(merge_lists(node, live, config)),
        _ => config.clone(),
    }
}

/// The configuration's items in its order; the others stay between the ones they stood between.
fn merge_lists(node: Node, live: &[Value], config: &[Value]) -> Vec<Value> {
    let (live, config) = (node.items(live), node.items(config));
    let in_live: BTreeMap<&Element, &Value> = live.iter().map(|(element, item)| (element, *item)).collect();
    let in_config: BTreeMap<&Element, &Value> = config.iter().map(|(element, item)| (element, *item)).collect();
    let mut out = Vec::new();
    let mut placed = std::collections::BTreeSet::new();
    let (mut left, mut right) = (live.iter().peekable(), config.iter().peekable());
    loop {
        if let Some((element, item)) = left.peek() {
            if !in_config.contains_key(element) {
                out.push((*item).clone());
                left.next();
                continue;
            }
            if placed.contains(element) {
                left.next();
                continue;
            }
        }
        let Some((element, item)) = right.next() else { return out };
        placed.insert(element);
        out.push(match in_live.get(element) {
            Some(live) => merge(node.item(), live, item),
            None => (*item).clone(),
        });
    }
}

/// What differs between two states of an object.
#[derive(Debug, Default, PartialEq)]
pub struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

pub fn compare(node: Node, old: &Value, new: &Value) -> Comparison {
    let mut out = Comparison::default();
    walk(node, old, new, &mut out);
    out
}

impl Comparison {
    /// Takes in what was found below `element`.
    fn attach(&mut self, element: &Element, below: Comparison) {
        let sides =
            [(&mut self.added, below.added), (&mut self.modified, below.modified), (&mut self.removed, below.removed)];
        for (side, below) in sides {
            if !below.is_empty() {
                side.children.insert(element.clone(), below);
            }
        }
    }
}

/// Equal parts are passed over whole: most of an object does not change.
fn walk(node: Node, old: &Value, new: &Value, out: &mut Comparison) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) if node.is_map() => {
            for (name, value) in new {
                let mut below = Comparison::default();
                match old.get(name) {
                    Some(old) if old == value => continue,
                    Some(old) => walk(node.entry(name), old, value, &mut below),
                    None => whole(node.entry(name), value, &mut below.added, present_as_zero(node, name)),
                }
                out.attach(&Element::Field(name.clone()), below);
            }
            for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                let mut below = Comparison::default();
                whole(node.entry(name), value, &mut below.removed, present_as_zero(node, name));
                out.attach(&Element::Field(name.clone()), below);
            }
        }
        (Value::Array(old), Value::Array(new)) if node.is_list() => {
            let (old, new) = (node.items(old), node.items(new));
            let in_old: BTreeMap<&Element, &Value> = old.iter().map(|(element, item)| (element, *item)).collect();
            for (element, item) in &new {
                let mut below = Comparison::default();
                match in_old.get(element) {
                    Some(old) => walk(node.item(), old, item, &mut below),
                    None => whole(node.item(), item, &mut below.added, false),
                }
                out.attach(element, below);
            }
            let in_new: BTreeMap<&Element, &Value> = new.iter().map(|(element, item)| (element, *item)).collect();
            for (element, item) in old.iter().filter(|(element, _)| !in_new.contains_key(element)) {
                let mut below = Comparison::default();
                whole(node.item(), item, &mut below.removed, false);
                out.attach(element, below);
            }
        }
        _ => out.modified.member = true,
    }
}

/// True for a field that is never missing in the reference's own form, where structs and lists that are not
/// left out when empty always are: it does not count as added.
fn present_as_zero(node: Node, name: &str) -> bool {
    let Node::Struct(ty) = node else { return false };
    ty.fields.get(name).is_some_and(|field| {
        (matches!(field.shape, Shape::Struct(_)) && !field.pointer)
            || (!field.omit && matches!(field.shape, Shape::List(_) | Shape::Map(_)))
    })
}

/// A value that is on one side only: all its fields, and itself unless its container is always there.
fn whole(node: Node, value: &Value, out: &mut FieldSet, present: bool) {
    match value {
        Value::Object(map) if node.is_map() => {
            out.member |= !present || map.is_empty();
            for (name, value) in map {
                whole(node.entry(name), value, out.field(name), present_as_zero(node, name));
            }
        }
        Value::Array(list) if node.is_list() => {
            out.member |= !present;
            for (element, item) in node.items(list) {
                whole(node.item(), item, out.child(element), false);
            }
        }
        _ => out.member = true,
    }
}

/// Removes from `value` what `last` holds and `kept` does not. Containers that become empty by it go too.
pub fn remove(node: Node, value: &mut Value, last: &FieldSet, kept: &FieldSet) {
    match value {
        Value::Object(map) if node.is_map() => {
            for (element, last) in &last.children {
                let Element::Field(name) = element else { continue };
                let Some(kept) = kept.children.get(element) else {
                    map.remove(name);
                    continue;
                };
                if let Some(below) = map.get_mut(name) {
                    let was_empty = is_empty(below);
                    remove(node.entry(name), below, last, kept);
                    if is_empty(below) && !was_empty && !kept.member {
                        map.remove(name);
                    }
                }
            }
        }
        Value::Array(list) if node.is_list() => {
            let elements: Vec<Element> = list
                .iter()
                .enumerate()
                .map(|(at, item)| node.element(at, item).unwrap_or(Element::Index(at)))
                .collect();
            let mut elements = elements.iter();
            list.retain_mut(|item| {
                let Some(element) = elements.next() else { return true };
                match (last.children.get(element), kept.children.get(element)) {
                    (Some(_), None) => false,
                    (Some(last), Some(kept)) => {
                        remove(node.item(), item, last, kept);
                        true
                    }
                    (None, _) => true,
                }
            });
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}
