//! The checks of list and watch parameters, with the texts of the API machinery.

use keelstone_machinery::{
    field::{Causes, Path},
    gvk::GroupKind,
    selector::{FieldSelector, LabelSelector},
    status::{ApiResult, ApiStatus},
};
use keelstone_storage::{Freshness, ListOptions, Predicate, WatchOptions, WatchStart};
use serde_json::Value;

use crate::{ListParams, Resource};

/// What a list asks the storage for.
pub fn list_options(resource: &'static dyn Resource, namespace: &str, params: &ListParams) -> ApiResult<ListOptions> {
    check_match(params, false)?;
    if params.limit < 0 {
        return Err(ApiStatus::bad_request(format!("limit: Invalid value: {}: must be non-negative", params.limit)));
    }
    if !params.continue_token.is_empty() && !matches!(params.resource_version.as_str(), "" | "0") {
        return Err(ApiStatus::bad_request("specifying resource version is not allowed when using continue"));
    }
    Ok(ListOptions {
        freshness: list_freshness(params)?,
        limit: usize::try_from(params.limit).unwrap_or(0),
        continue_token: params.continue_token.clone(),
        predicate: predicate(resource, namespace, params)?,
    })
}

/// What a watch asks the storage for.
pub fn watch_options(resource: &'static dyn Resource, namespace: &str, params: &ListParams) -> ApiResult<WatchOptions> {
    check_match(params, true)?;
    let revision = revision(&params.resource_version)?;
    let start = match (params.send_initial_events, revision) {
        (Some(true), None) => WatchStart::StateThenBookmark(None),
        (Some(true), Some(revision)) => WatchStart::StateThenBookmark(Some(revision)),
        (Some(false), None | Some(0)) => WatchStart::Now,
        (None, None) => WatchStart::StateLatest,
        (None, Some(0)) => WatchStart::StateAny,
        (Some(false) | None, Some(revision)) => WatchStart::After(revision),
    };
    Ok(WatchOptions {
        start,
        predicate: predicate(resource, namespace, params)?,
        bookmarks: params.allow_watch_bookmarks,
        timeout: params.timeout,
    })
}

/// What the resourceVersion of a get means.
pub fn get_freshness(resource_version: &str) -> ApiResult<Freshness> {
    Ok(match revision(resource_version)? {
        None => Freshness::Latest,
        Some(0) => Freshness::Any,
        Some(revision) => Freshness::NotOlderThan(revision),
    })
}

fn list_freshness(params: &ListParams) -> ApiResult<Freshness> {
    Ok(match (params.resource_version_match.as_str(), revision(&params.resource_version)?) {
        (_, None) => Freshness::Latest,
        ("Exact", Some(revision)) => Freshness::Exact(revision),
        (_, Some(0)) => Freshness::Any,
        // Without a match, a limit asks for the snapshot at this revision.
        ("", Some(revision)) if params.limit > 0 => Freshness::Exact(revision),
        (_, Some(revision)) => Freshness::NotOlderThan(revision),
    })
}

fn revision(text: &str) -> ApiResult<Option<i64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let revision = text.parse::<i64>().ok().filter(|r| *r >= 0);
    revision.map(Some).ok_or_else(|| {
        ApiStatus::bad_request(format!("resourceVersion: Invalid value: {text:?}: must be an unsigned integer"))
    })
}

/// The rules of resourceVersionMatch and sendInitialEvents.
fn check_match(params: &ListParams, watch: bool) -> ApiResult<()> {
    let mut causes = Causes::new();
    let at = Path::new("resourceVersionMatch");
    let initial = Path::new("sendInitialEvents");
    let rv_match = params.resource_version_match.as_str();
    if watch {
        match (params.send_initial_events, rv_match) {
            (None, "") => {}
            (None, _) => {
                causes
                    .forbidden(&at, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
            }
            (Some(_), "NotOlderThan") => {}
            (Some(_), "") => {
                causes.forbidden(&at, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
            }
            (Some(_), other) => causes.not_supported(&at, other, &["NotOlderThan"]),
        }
        if params.send_initial_events.is_some() && !params.continue_token.is_empty() {
            causes.forbidden(&at, "resourceVersionMatch is forbidden when continue is provided");
        }
    } else {
        if params.send_initial_events.is_some() {
            causes.forbidden(&initial, "sendInitialEvents is forbidden for list");
        }
        if !rv_match.is_empty() {
            if params.resource_version.is_empty() {
                causes.forbidden(&at, "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if !params.continue_token.is_empty() {
                causes.forbidden(&at, "resourceVersionMatch is forbidden when continue is provided");
            }
            if !["Exact", "NotOlderThan"].contains(&rv_match) {
                causes.not_supported(&at, rv_match, &["Exact", "NotOlderThan", ""]);
            }
            if rv_match == "Exact" && params.resource_version == "0" {
                causes.forbidden(&at, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    let kind = GroupKind { group: "meta.k8s.io".into(), kind: "ListOptions".into() };
    Err(ApiStatus::invalid(&kind, "", causes))
}

/// The selectors as one predicate.
fn predicate(resource: &'static dyn Resource, namespace: &str, params: &ListParams) -> ApiResult<Predicate> {
    let labels = LabelSelector::parse(&params.label_selector)?;
    let fields = FieldSelector::parse(&params.field_selector)?;
    for requirement in &fields.requirements {
        let field = requirement.field.as_str();
        let known = field == "metadata.name"
            || (field == "metadata.namespace" && resource.info().namespaced)
            || resource.fields().contains(&field);
        if !known {
            return Err(ApiStatus::bad_request(format!("field label not supported: {field}")));
        }
    }
    if labels.is_everything() && fields.is_empty() {
        return Ok(Predicate::everything());
    }
    let name = fields.required("metadata.name").map(str::to_owned);
    // A name within a known namespace is one key, which the storage looks up.
    let is_one_key = name.is_some() && (!namespace.is_empty() || !resource.info().namespaced);
    let predicate = if is_one_key && labels.is_everything() && fields.requirements.len() == 1 {
        Predicate::everything()
    } else {
        Predicate::new(move |object| {
            labels.matches_object(object) && fields.matches(|field| field_value(resource, object, field))
        })
    };
    Ok(match name {
        Some(name) if !resource.info().namespaced => predicate.only_key(name),
        Some(name) if !namespace.is_empty() => predicate.only_key(format!("{namespace}/{name}")),
        _ => predicate,
    })
}

fn field_value(resource: &'static dyn Resource, object: &Value, field: &str) -> String {
    match field {
        "metadata.name" => object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        "metadata.namespace" => object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned(),
        other => resource.field(object, other).unwrap_or_default(),
    }
}
