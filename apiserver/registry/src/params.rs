use std::time::Duration;

use keelstone_machinery::status::{ApiResult, ApiStatus};
use serde_json::Value;

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

impl DeleteOptions {
    /// Reads a v1 DeleteOptions body; kind and apiVersion may be missing.
    ///
    /// # Errors
    /// 400 for a field of the wrong form.
    pub fn from_value(body: &Value) -> ApiResult<Self> {
        let wrong = |what: &str| ApiStatus::bad_request(format!("invalid DeleteOptions: {what}"));
        let text = |v: &Value| v.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        if !body.is_object() && !body.is_null() {
            return Err(wrong("not an object"));
        }
        let grace_period_s = match &body["gracePeriodSeconds"] {
            Value::Null => None,
            value => Some(value.as_i64().ok_or_else(|| wrong("gracePeriodSeconds is not an integer"))?),
        };
        let orphan_dependents = body["orphanDependents"].as_bool();
        let policy = text(&body["propagationPolicy"]);
        if orphan_dependents.is_some() && policy.is_some() {
            return Err(wrong("orphanDependents and deletionPropagation cannot be both set"));
        }
        let propagation_policy = match (policy.as_deref(), orphan_dependents) {
            (Some(policy), _) => Some(Propagation::parse(policy)?),
            (None, Some(true)) => Some(Propagation::Orphan),
            (None, Some(false)) => Some(Propagation::Background),
            (None, None) => None,
        };
        Ok(Self {
            grace_period_s,
            propagation_policy,
            precondition_uid: text(&body["preconditions"]["uid"]),
            precondition_resource_version: text(&body["preconditions"]["resourceVersion"]),
            dry_run: match &body["dryRun"] {
                Value::Null => false,
                Value::Array(values) if values.is_empty() => false,
                Value::Array(values) if values.iter().all(|v| v == "All") => true,
                other => return Err(wrong(&format!("dryRun: Unsupported value: {other}: supported values: \"All\""))),
            },
        })
    }
}

impl Propagation {
    /// # Errors
    /// 400 for an unknown policy.
    pub fn parse(text: &str) -> ApiResult<Self> {
        match text {
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            "Orphan" => Ok(Self::Orphan),
            other => Err(ApiStatus::bad_request(format!(
                "invalid DeleteOptions: propagationPolicy: Unsupported value: {other:?}: supported values: \
                 \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn delete_options_without_kind_are_read() {
        let options = DeleteOptions::from_value(&json!({
            "gracePeriodSeconds": 0, "propagationPolicy": "Foreground",
            "preconditions": {"uid": "u", "resourceVersion": "5"}, "dryRun": ["All"],
        }))
        .unwrap();
        assert_eq!(options.grace_period_s, Some(0));
        assert_eq!(options.propagation_policy, Some(Propagation::Foreground));
        assert_eq!(options.precondition_uid.as_deref(), Some("u"));
        assert_eq!(options.precondition_resource_version.as_deref(), Some("5"));
        assert!(options.dry_run);
        assert_eq!(DeleteOptions::from_value(&Value::Null).unwrap(), DeleteOptions::default());
        let orphan = DeleteOptions::from_value(&json!({"orphanDependents": true})).unwrap();
        assert_eq!(orphan.propagation_policy, Some(Propagation::Orphan));
    }

    #[test]
    fn wrong_delete_options_are_a_bad_request() {
        for body in [
            json!([]),
            json!({"gracePeriodSeconds": "x"}),
            json!({"propagationPolicy": "Maybe"}),
            json!({"orphanDependents": true, "propagationPolicy": "Orphan"}),
            json!({"dryRun": ["Some"]}),
        ] {
            assert_eq!(DeleteOptions::from_value(&body).unwrap_err().code, 400, "{body}");
        }
    }
}
