//! Pieces of ResourceInfo and of the strategies that kinds share.

use keelstone_machinery::SubresourceInfo;
use keelstone_registry::WriteContext;
use serde_json::Value;

use crate::json::copy;

pub const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
pub const READ_WRITE: &[&str] = &["get", "patch", "update"];

/// The `status` subresource of a kind: its bodies are of the kind itself.
pub const fn status(group: &'static str, version: &'static str, kind: &'static str) -> SubresourceInfo {
    SubresourceInfo { name: "status", group, version, kind, verbs: READ_WRITE }
}

/// The `scale` subresource.
pub const fn scale() -> SubresourceInfo {
    SubresourceInfo { name: "scale", group: "autoscaling", version: "v1", kind: "Scale", verbs: READ_WRITE }
}

/// A subresource that only takes POST.
pub const fn action(
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
) -> SubresourceInfo {
    SubresourceInfo { name, group, version, kind, verbs: &["create"] }
}

/// An update of the main resource leaves the status alone; one of `status` leaves the specification alone.
pub fn separate_status(context: &WriteContext, new: &mut Value, old: &Value) {
    copy(new, old, if context.subresource == "status" { "spec" } else { "status" });
}
