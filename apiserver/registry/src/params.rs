use std::time::Duration;

/// The query of a list, watch or deletecollection, as parsed from the URL and not yet checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListParams {
    pub label_selector: String,
    pub field_selector: String,
    pub resource_version: String,
    pub resource_version_match: String,
    pub limit: i64,
    pub continue_token: String,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    /// timeoutSeconds of a watch.
    pub timeout: Option<Duration>,
}

/// What a write request carries beside the object.
#[derive(Clone, Debug, Default)]
pub struct WriteRequest {
    /// The user's name.
    pub user: String,
    /// The field manager: `fieldManager`, else made from the User-Agent (at most 128 characters).
    pub manager: String,
    pub dry_run: bool,
    /// `status`, or empty for the main resource.
    pub subresource: String,
}

/// The v1 DeleteOptions, in the body or in the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// gracePeriodSeconds.
    pub grace_period_s: Option<i64>,
    pub propagation_policy: Option<Propagation>,
    pub precondition_uid: Option<String>,
    pub precondition_resource_version: Option<String>,
    pub dry_run: bool,
}

/// propagationPolicy: what becomes of the dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}
