//! Helpers of this crate's tests.

use keelstone_machinery::field::Causes;
use keelstone_registry::{Resource, WriteContext};
use serde_json::Value;

fn lines(causes: &Causes) -> Vec<String> {
    causes.list().iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
}

/// The errors of an object as it is, after defaults.
pub fn errors(resource: &dyn Resource, mut object: Value) -> Vec<String> {
    resource.default(&mut object);
    let mut causes = Causes::new();
    resource.validate(&object, &mut causes);
    lines(&causes)
}

/// The errors of changing `old` into `new` through the main resource.
pub fn update_errors(resource: &dyn Resource, new: Value, old: Value) -> Vec<String> {
    let mut causes = Causes::new();
    resource.validate_update(&new, &old, &mut causes);
    lines(&causes)
}

/// The cells of the object's row, as text.
pub fn cells(resource: &dyn Resource, object: &Value, now_unix_s: i64) -> Vec<String> {
    let show = |cell: Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    resource.row(object, now_unix_s).into_iter().map(show).collect()
}

/// The context of a request to a subresource, or to the main resource if empty.
pub fn context(subresource: &str) -> WriteContext {
    WriteContext { subresource: subresource.into(), ..WriteContext::default() }
}
