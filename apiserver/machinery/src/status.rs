//! The error of the API machinery: what becomes a `v1` Status, in the form that client-go matches.

use std::fmt;

use serde_json::{json, Map, Value};

use crate::field::{quoted, Causes};
use crate::gvk::{GroupKind, GroupResource};

pub type ApiResult<T> = Result<T, ApiStatus>;

/// One cause within a Status' details.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The machine-readable reason: `FieldValueRequired`, `FieldManagerConflict`.
    pub reason: String,
    pub message: String,
    /// The path of the field; may be empty.
    pub field: String,
}

/// What a Status says beside code, reason and message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    pub name: String,
    pub group: String,
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_s: Option<u32>,
}

/// An error with its HTTP code, machine-readable reason and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiStatus {
    pub code: u16,
    pub reason: String,
    pub message: String,
    pub details: Option<Box<Details>>,
    /// Only for an expired continue token: the token with which the list may go on inconsistently.
    pub continue_token: Option<Box<str>>,
}

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. \
You can start a new list without the continue parameter";
const CONTINUE_INCONSISTENT: &str = ", or use the continue token in this response to retrieve the remainder of the \
results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, \
or deleted between the time the first chunk was returned and now may show up in the list.";

fn details(gr: &GroupResource, name: &str) -> Details {
    Details { name: name.to_owned(), group: gr.group.clone(), kind: gr.resource.clone(), ..Details::default() }
}

impl ApiStatus {
    /// A status with neither details nor causes.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), details: None, continue_token: None }
    }

    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// Adds the seconds after which a client may try again (the Retry-After header).
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_s = Some(seconds);
        self
    }

    pub fn not_found(gr: &GroupResource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{gr} {} not found", quoted(name))).with_details(details(gr, name))
    }

    /// A path that no resource serves.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with_details(Details::default())
    }

    pub fn already_exists(gr: &GroupResource, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{gr} {} already exists", quoted(name))).with_details(details(gr, name))
    }

    /// `generateName` found no free name.
    pub fn generate_name_conflict(gr: &GroupResource, name: &str, retry_after_s: u32) -> Self {
        let text = format!(
            "{gr} {} already exists, the server was not able to generate a unique name for the object",
            quoted(name)
        );
        let details = Details { retry_after_s: Some(retry_after_s), ..details(gr, name) };
        Self::new(409, "AlreadyExists", text).with_details(details)
    }

    pub fn conflict(gr: &GroupResource, name: &str, message: &str) -> Self {
        let text = format!("Operation cannot be fulfilled on {gr} {}: {message}", quoted(name));
        Self::new(409, "Conflict", text).with_details(details(gr, name))
    }

    /// The conflict of an update whose resourceVersion is not the newest.
    pub fn conflict_modified(gr: &GroupResource, name: &str) -> Self {
        Self::conflict(
            gr,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// The conflict of a server-side apply.
    pub fn apply_conflict(causes: Vec<Cause>, message: String) -> Self {
        Self::new(409, "Conflict", message).with_details(Details { causes, ..Details::default() })
    }

    pub fn invalid(gk: &GroupKind, name: &str, causes: Causes) -> Self {
        let causes = causes.into_vec();
        let mut texts: Vec<String> = Vec::new();
        for cause in &causes {
            let text = format!("{}: {}", cause.field, cause.message);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let all = if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) };
        let details = Details {
            name: name.to_owned(),
            group: gk.group.clone(),
            kind: gk.kind.clone(),
            causes,
            ..Details::default()
        };
        Self::new(422, "Invalid", format!("{gk} {} is invalid: {all}", quoted(name))).with_details(details)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// `name` may be empty (lists, creation).
    pub fn forbidden(gr: &GroupResource, name: &str, message: &str) -> Self {
        let text = if gr.resource.is_empty() {
            format!("forbidden: {message}")
        } else if name.is_empty() {
            format!("{gr} is forbidden: {message}")
        } else {
            format!("{gr} {} is forbidden: {message}", quoted(name))
        };
        Self::new(403, "Forbidden", text).with_details(details(gr, name))
    }

    pub fn unauthorized(message: &str) -> Self {
        Self::new(401, "Unauthorized", if message.is_empty() { "Unauthorized" } else { message })
    }

    pub fn method_not_supported(gr: &GroupResource, action: &str) -> Self {
        let text = format!("{action} is not supported on resources of kind {}", quoted(&gr.to_string()));
        Self::new(405, "MethodNotAllowed", text).with_details(details(gr, ""))
    }

    /// A method that a path does not take.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .with_details(Details::default())
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let text = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::new(406, "NotAcceptable", text)
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let text = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", text)
    }

    /// A resourceVersion that was compacted away (watch, exact list).
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// A continue token whose revision was compacted away; `token` continues inconsistently, if given.
    pub fn resource_expired_continue(token: Option<&str>) -> Self {
        let Some(token) = token else {
            return Self::expired(format!("{CONTINUE_EXPIRED}."));
        };
        let mut status = Self::expired(format!("{CONTINUE_EXPIRED}{CONTINUE_INCONSISTENT}"));
        status.continue_token = Some(token.into());
        status
    }

    pub fn too_many_requests(message: &str, retry_after_s: u32) -> Self {
        Self::new(429, "TooManyRequests", message).with_retry_after(retry_after_s)
    }

    /// The deadline passed.
    pub fn timeout(message: &str, retry_after_s: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {message}")).with_retry_after(retry_after_s)
    }

    /// An operation that may be tried again.
    pub fn server_timeout(gr: &GroupResource, operation: &str, retry_after_s: u32) -> Self {
        let text =
            format!("The {operation} operation against {gr} could not be completed at this time, please try again.");
        let details = Details { retry_after_s: Some(retry_after_s), ..details(gr, operation) };
        Self::new(500, "ServerTimeout", text).with_details(details)
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        let cause = Cause { message: message.clone(), ..Cause::default() };
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
            .with_details(Details { causes: vec![cause], ..Details::default() })
    }

    pub fn too_large(message: &str) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {message}"))
    }

    /// A body that could be read but not processed (422 without causes: a patch that does not fit).
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    pub fn is_not_found(&self) -> bool {
        self.reason == "NotFound"
    }

    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    /// True for both forms in which an old resourceVersion is answered.
    pub fn is_expired(&self) -> bool {
        self.reason == "Expired" || self.reason == "Gone"
    }

    pub fn retry_after_s(&self) -> Option<u32> {
        self.details.as_ref().and_then(|d| d.retry_after_s)
    }

    pub fn causes(&self) -> &[Cause] {
        self.details.as_ref().map_or(&[], |d| &d.causes)
    }

    /// The `v1` Status object.
    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), Value::from(&**token));
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if let Some(details) = &self.details {
            status["details"] = details.to_value();
        }
        status
    }

    /// Reads a `v1` Status of a failure back, as a client does; `None` if `value` is none.
    pub fn from_value(value: &Value) -> Option<Self> {
        if value.get("kind")? != "Status" || value.get("status").is_some_and(|s| s == "Success") {
            return None;
        }
        let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let code = value.get("code").and_then(Value::as_u64).and_then(|c| u16::try_from(c).ok()).unwrap_or(500);
        let mut status = Self::new(code, &text(value, "reason"), text(value, "message"));
        status.continue_token = value
            .pointer("/metadata/continue")
            .and_then(Value::as_str)
            .filter(|token| !token.is_empty())
            .map(Into::into);
        if let Some(d) = value.get("details").filter(|d| d.is_object()) {
            let causes = d.get("causes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            status.details = Some(Box::new(Details {
                name: text(d, "name"),
                group: text(d, "group"),
                kind: text(d, "kind"),
                uid: text(d, "uid"),
                causes: causes
                    .iter()
                    .map(|c| Cause { reason: text(c, "reason"), message: text(c, "message"), field: text(c, "field") })
                    .collect(),
                retry_after_s: d
                    .get("retryAfterSeconds")
                    .and_then(Value::as_u64)
                    .filter(|s| *s > 0)
                    .and_then(|s| u32::try_from(s).ok()),
            }));
        }
        Some(status)
    }

    /// The Status of a success, as deletions answer it.
    pub fn success(gr: &GroupResource, name: &str, uid: &str) -> Value {
        let details = Details { uid: uid.to_owned(), ..details(gr, name) };
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details.to_value(),
        })
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !text.is_empty() {
                out.insert(key.into(), Value::from(text.as_str()));
            }
        }
        if !self.causes.is_empty() {
            out.insert("causes".into(), self.causes.iter().map(Cause::to_value).collect());
        }
        if let Some(seconds) = self.retry_after_s {
            out.insert("retryAfterSeconds".into(), Value::from(seconds));
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                out.insert(key.into(), Value::from(text.as_str()));
            }
        }
        Value::Object(out)
    }
}

impl fmt::Display for ApiStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiStatus {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    fn deployments() -> GroupResource {
        GroupResource { group: "apps".into(), resource: "deployments".into() }
    }

    #[test]
    fn texts_are_those_that_client_go_makes() {
        let gr = deployments();
        assert_eq!(ApiStatus::not_found(&gr, "a").message, "deployments.apps \"a\" not found");
        let mut causes = Causes::new();
        causes.required(&Path::new("spec"), "");
        let gk = GroupKind { group: String::new(), kind: "Pod".into() };
        let invalid = ApiStatus::invalid(&gk, "p", causes);
        assert_eq!(invalid.message, "Pod \"p\" is invalid: spec: Required value");
        assert_eq!(invalid.code, 422);
        assert_eq!(
            ApiStatus::conflict_modified(&gr, "a").message,
            "Operation cannot be fulfilled on deployments.apps \"a\": the object has been modified; please apply \
             your changes to the latest version and try again"
        );
    }

    #[test]
    fn a_status_survives_the_way_to_the_client() {
        let mut causes = Causes::new();
        causes.invalid(&Path::new("spec"), 1, "no");
        causes.required(&Path::new("spec"), "");
        let all = [
            ApiStatus::invalid(&GroupKind { group: "apps".into(), kind: "Deployment".into() }, "x", causes),
            ApiStatus::resource_expired_continue(Some("t")),
            ApiStatus::timeout("no quorum", 2),
            ApiStatus::bad_request("x"),
        ];
        for status in all {
            assert_eq!(ApiStatus::from_value(&status.to_value()), Some(status));
        }
        assert_eq!(ApiStatus::from_value(&ApiStatus::success(&deployments(), "a", "u")), None);
    }
}
