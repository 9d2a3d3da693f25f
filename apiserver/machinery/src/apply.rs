//! Server-side apply and the ownership of fields (`metadata.managedFields`).

mod fields;
mod managed;
mod typed;

#[cfg(test)]
mod tests;

pub use fields::{Element, FieldSet};

use serde_json::{Map, Value};

use crate::facts::{Facts, Shape};
use crate::gvk::GroupVersionKind;
use crate::meta;
use crate::status::{ApiResult, ApiStatus, Cause};

use managed::Entry;

/// Owns the fields of an object that had no owners when it was first applied to.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Applies `config` to `live` as `manager`; gives the new object, managedFields and all. `live` is `None` if
/// the object does not exist yet. `now` is RFC 3339. Both have been through `schema::check_fields`. The result
/// equals `live` if nothing changes.
///
/// # Errors
/// 409 that names the managers whose fields the configuration changes, unless `force`; 400 for a
/// configuration that does not fit its schema.
pub fn apply(
    gvk: &GroupVersionKind,
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    subresource: &str,
    now: &str,
) -> ApiResult<Value> {
    if !meta::managed_fields(config).is_empty() {
        return Err(ApiStatus::bad_request("metadata.managedFields must be nil"));
    }
    if manager.is_empty() {
        return Err(ApiStatus::bad_request("fieldManager is required for apply patch"));
    }
    let node = typed::root(gvk);
    let mut config = config.clone();
    meta::set(&mut config, "managedFields", Value::Null);
    let set = typed::applied_set(node, &config, "").map_err(|error| {
        let (namespace, name) = (meta::namespace(&config), meta::name(&config));
        ApiStatus::bad_request(format!(
            "failed to create typed patch object ({namespace}/{name}; {}, Kind={}): {error}",
            gvk.api_version(),
            gvk.kind
        ))
    })?;
    let empty = Value::Object(Map::new());
    let mut before = live.unwrap_or(&empty).clone();
    let mut entries = managed::read(&before).unwrap_or_default();
    meta_without_managed_fields(&mut before);
    if live.is_some() && entries.is_empty() {
        let mut first = managed::entry(gvk, BEFORE_FIRST_APPLY, false, "", now);
        first.fields = owned_by_writes(gvk, "", &typed::compare(node, &empty, &before).added);
        entries.push(first);
    }

    let mut mine = managed::entry(gvk, manager, true, subresource, now);
    let previous = take(&mut entries, &mine);
    mine.fields = owned_by_writes(gvk, subresource, &set);
    let mut kept = mine.fields.clone();
    for entry in &entries {
        kept.union(&entry.fields);
    }
    let mut after = typed::merge(node, &before, &restricted(gvk, subresource, &config));
    if let Some(previous) = &previous {
        typed::remove(node, &mut after, &previous.fields, &kept);
    }

    let difference = typed::compare(node, &before, &after);
    let mut touched = difference.modified;
    touched.union(&difference.added);
    let conflicts: Vec<(usize, FieldSet)> =
        entries.iter().enumerate().map(|(at, entry)| (at, entry.fields.intersection(&touched))).collect();
    let conflicts: Vec<(usize, FieldSet)> = conflicts.into_iter().filter(|(_, set)| !set.is_empty()).collect();
    if !force && !conflicts.is_empty() {
        return Err(conflict(&entries, &conflicts));
    }
    for (at, set) in &conflicts {
        entries[*at].fields.subtract(set);
    }
    for entry in &mut entries {
        entry.fields.subtract(&difference.removed);
    }
    keep_time(&mut mine, previous.as_ref());
    entries.push(mine);
    managed::write(&mut after, entries);
    Ok(after)
}

/// Notes in `new`'s managedFields what a write other than apply by `manager` changed from `old` (`None` on
/// creation). `now` is RFC 3339. `new` may carry managedFields of its own, which then count; a single empty
/// entry clears them all.
pub fn track_update(
    gvk: &GroupVersionKind,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    subresource: &str,
    now: &str,
) {
    if !new.is_object() {
        return;
    }
    let given = meta::managed_fields(new);
    if subresource.is_empty() && given.len() == 1 && given[0].as_object().is_some_and(Map::is_empty) {
        meta::set(new, "managedFields", Value::Null);
        return;
    }
    let old_entries = || old.and_then(managed::read).unwrap_or_default();
    let mut entries = match managed::read(new) {
        Some(entries) if subresource.is_empty() && !entries.is_empty() => entries,
        _ => old_entries(),
    };
    let node = typed::root(gvk);
    let mut before = old.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    meta_without_managed_fields(&mut before);
    meta_without_managed_fields(new);
    let difference = typed::compare(node, &before, new);
    let mut touched = difference.modified;
    touched.union(&difference.added);
    if touched.is_empty() && difference.removed.is_empty() {
        managed::write(new, entries);
        return;
    }

    let mut mine = managed::entry(gvk, manager, false, subresource, now);
    let previous = take(&mut entries, &mine);
    for entry in &mut entries {
        entry.fields.subtract(&touched);
        entry.fields.subtract(&difference.removed);
    }
    if let Some(previous) = &previous {
        mine.fields = previous.fields.clone();
    }
    mine.fields.subtract(&difference.removed);
    mine.fields.union(&owned_by_writes(gvk, subresource, &touched));
    keep_time(&mut mine, previous.as_ref());
    entries.push(mine);
    managed::write(new, entries);
}

fn meta_without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn take(entries: &mut Vec<Entry>, like: &Entry) -> Option<Entry> {
    let at = entries.iter().position(|entry| entry.same_owner(like))?;
    Some(entries.remove(at))
}

/// An entry whose fields did not change keeps its time, so that a write without effect stays one.
fn keep_time(mine: &mut Entry, previous: Option<&Entry>) {
    if let Some(previous) = previous {
        let owned = |entry: &Entry| {
            let mut set = entry.fields.clone();
            managed::strip(&mut set);
            set
        };
        if mine.api_version == previous.api_version && owned(mine) == owned(previous) {
            previous.time.clone_into(&mut mine.time);
        }
    }
}

/// True if the kind's status is written through its own subresource only.
fn has_status(gvk: &GroupVersionKind) -> bool {
    let Some(ty) = Facts::global().kind(gvk) else { return true };
    matches!(ty.fields.get("status").map(|field| &field.shape), Some(Shape::Struct(_)))
}

/// The top-level fields that a write to a subresource does not reach.
fn out_of_reach(gvk: &GroupVersionKind, subresource: &str) -> &'static [&'static str] {
    match subresource {
        "" if has_status(gvk) => &["status"],
        "status" => &["spec", "data"],
        _ => &[],
    }
}

fn owned_by_writes(gvk: &GroupVersionKind, subresource: &str, set: &FieldSet) -> FieldSet {
    let mut out = set.clone();
    for name in out_of_reach(gvk, subresource) {
        out.children.remove(&Element::Field((*name).to_owned()));
    }
    out
}

fn restricted(gvk: &GroupVersionKind, subresource: &str, config: &Value) -> Value {
    let mut out = config.clone();
    if let Some(map) = out.as_object_mut() {
        for name in out_of_reach(gvk, subresource) {
            map.remove(*name);
        }
    }
    out
}

fn conflict(entries: &[Entry], conflicts: &[(usize, FieldSet)]) -> ApiStatus {
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    let mut sorted: Vec<(String, Vec<String>)> =
        conflicts.iter().map(|(at, set)| (entries[*at].shown(), set.paths())).collect();
    sorted.sort();
    for (owner, paths) in &sorted {
        lines.push(format!("conflicts with {owner}:"));
        for path in paths {
            lines.push(format!("- {path}"));
            causes.push(Cause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {owner}"),
                field: path.clone(),
            });
        }
    }
    let message = match causes.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        all => format!("Apply failed with {} conflicts: {}", all.len(), lines.join("\n")),
    };
    ApiStatus::apply_conflict(causes, message)
}
