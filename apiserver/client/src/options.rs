//! Parameters of API calls, as in the query strings and bodies of the Kubernetes API.

use serde_json::{json, Value};

/// How a list treats its resourceVersion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    Exact,
    NotOlderThan,
}

impl VersionMatch {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Exact => "Exact",
            Self::NotOlderThan => "NotOlderThan",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// `None`: the newest state, confirmed by a quorum. `Some("0")`: whatever the API server has in memory.
    pub resource_version: Option<String>,
    pub version_match: Option<VersionMatch>,
    pub limit: Option<u32>,
    pub continue_token: Option<String>,
}

impl ListOptions {
    /// All that the server has in memory, possibly stale.
    pub fn cached() -> Self {
        Self { resource_version: Some("0".into()), ..Self::default() }
    }

    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.label_selector = Some(selector.into());
        self
    }

    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.field_selector = Some(selector.into());
        self
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// Events after this version; `None`: any state, then events.
    pub resource_version: Option<String>,
    pub bookmarks: bool,
    /// The server ends the watch after this long.
    pub timeout_s: Option<u64>,
}

/// A patch's body and content type.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902: an array of operations.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' strategic merge.
    Strategic(Value),
    /// Server-side apply; `PatchOptions::field_manager` is needed.
    Apply(Value),
}

impl Patch {
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json-patch+json",
            Self::Merge(_) => "application/merge-patch+json",
            Self::Strategic(_) => "application/strategic-merge-patch+json",
            // YAML is a superset of JSON, and this content type is understood by every version.
            Self::Apply(_) => "application/apply-patch+yaml",
        }
    }

    pub(crate) fn body(&self) -> &Value {
        match self {
            Self::Json(v) | Self::Merge(v) | Self::Strategic(v) | Self::Apply(v) => v,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchOptions {
    /// `None`: the client's.
    pub field_manager: Option<String>,
    /// Take fields over from other managers (server-side apply only).
    pub force: bool,
}

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    pub grace_period_s: Option<i64>,
    pub propagation: Option<Propagation>,
    /// Delete only if the object has this uid.
    pub uid: Option<String>,
    /// Delete only if the object has this resourceVersion.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Delete this very object, not a later one of the same name.
    pub fn uid(uid: impl Into<String>) -> Self {
        Self { uid: Some(uid.into()), ..Self::default() }
    }

    pub fn grace_period_s(mut self, grace_period_s: i64) -> Self {
        self.grace_period_s = Some(grace_period_s);
        self
    }

    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = Some(propagation);
        self
    }

    /// The body, a `meta/v1 DeleteOptions`.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(grace_period_s) = self.grace_period_s {
            body["gracePeriodSeconds"] = grace_period_s.into();
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = format!("{propagation:?}").into();
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        body
    }
}

/// Query parameters of a pod's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub container: Option<String>,
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail_lines: Option<i64>,
    pub since_s: Option<i64>,
    pub limit_bytes: Option<i64>,
}
